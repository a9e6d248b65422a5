/* A plug-in. plugin_b.c is another build of it: the same functions, other code. */
int plugin_value(void);
int (*plugin_static_function(void))(void);

int plugin_value(void)
{
    return 1;
}

static int static_value(void)
{
    return 11;
}

int (*plugin_static_function(void))(void)
{
    return static_value;
}
