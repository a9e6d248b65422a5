/* Another build of plugin_map.c: the same functions at the same places, with other answers. */
#define PLUGIN_ANSWER 2
#include "plugin_map.c"
