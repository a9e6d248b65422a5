/* Another build of plugin_a.c, which leaves a trace when it is loaded. */
#include <stdlib.h>

int plugin_value(void);
int (*plugin_static_function(void))(void);

__attribute__((constructor)) static void leave_trace(void)
{
    setenv("PLUGIN_B_WAS_LOADED", "1", 1);
}

int plugin_value(void)
{
    return 2;
}

static int static_value(void)
{
    return 22;
}

int (*plugin_static_function(void))(void)
{
    return static_value;
}
