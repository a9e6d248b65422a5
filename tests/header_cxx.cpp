/* header_cxx: the public header is C++11 too, warnings and all, and its functions link and run from there. */
#include <procpool.h>

#include <cstdio>
#include <vector>

namespace
{

int square(const void *item, void *result, void *)
{
    const double value = *static_cast<const double *>(item);
    *static_cast<double *>(result) = value * value;
    return 0;
}

int echo(pool_call *call)
{
    std::size_t size = 0;
    const char *input = static_cast<const char *>(pool_call_input(call, &size));
    char *reply = static_cast<char *>(pool_call_reply(call, size));
    if (!reply)
        return pool_call_fail(call, 1, "no room for %zu bytes", size);
    for (std::size_t i = 0; i < size; i++)
        reply[i] = input[i];
    return 0;
}

int fail(const char *what)
{
    std::fprintf(stderr, "header_cxx: %s: %s\n", what, pool_message());
    return 1;
}

} // namespace

int main()
{
    pool_init();

    pool_options options = POOL_OPTIONS_INIT;
    options.workers = 2;
    pool *workers = nullptr;
    if (pool_create(&options, &workers) < 0)
        return fail("pool_create");

    const std::vector<double> items(1000, 1.5);
    std::vector<double> results(items.size());
    std::vector<int> statuses(items.size(), 1);
    pool_map_options map_options = POOL_MAP_OPTIONS_INIT;
    map_options.status_out = statuses.data();
    if (pool_map_with(workers, square, items.data(), sizeof(double), results.data(), sizeof(double), items.size(),
                      &map_options) < 0)
        return fail("pool_map_with");
    for (std::size_t i = 0; i < items.size(); i++)
        if (statuses[i] != 0 || results[i] < 2.25 || results[i] > 2.25)
            return fail("a result is wrong");

    char text[] = "text";
    const pool_bytes payload = {text, sizeof text};
    pool_bytes reply = {nullptr, 0};
    if (pool_map_bytes(workers, echo, &payload, 1, &reply, nullptr) < 0 || reply.size != sizeof text)
        return fail("pool_map_bytes");
    pool_bytes_clear(&reply);
    return pool_destroy(workers) == 0 ? 0 : fail("pool_destroy");
}
