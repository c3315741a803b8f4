/* Looks at a few evenly spaced values of a tensor that spare most of them a closer one. */
#include "convert.h"
#include "fpenv.h"
#include "look.h"

enum { ENDS = 5, SPREAD_LOOK = 256, LEAST_LOOK = 9, REACH_LOOK = 4096, LOOKS_AT_ONCE = 256, BEYOND_REACH = 256 };

uint32_t szd_is_constant(uint32_t dtype, const uint8_t *data, uint64_t count)
{
    const unsigned bytes = dtype_of(dtype).element_bytes;
    return count > 0 && memcmp(data, data + bytes, (size_t)(count - 1) * bytes) == 0;
}

uint32_t szd_is_spread(uint32_t dtype, const uint8_t *data, uint64_t count, double least)
{
    double low[ENDS], high[ENDS]; /* high: negated */
    size_t lows = 0, highs = 0, looks = 0;
    if (dtype > DT_F64)
        return 0;
    fp_environment saved = fp_enter();
    for (uint64_t i = 0; i < count; i += spacing(count, SPREAD_LOOK), looks++) {
        double x = ordered(dtype, data, i);
        lows = insert(low, lows, ENDS, x);
        highs = insert(high, highs, ENDS, -x);
    }
    double span = looks < LEAST_LOOK ? 0 : -high[ENDS - 1] - low[ENDS - 1];
    bool is_spread = least <= span && span < (double)INFINITY;
    fp_leave(saved);
    return is_spread;
}

/* Magnitudes of the values that reaches look at, from number `from` on; returns how many. Not finite: infinite or NaN.
 */
static size_t look_at_some(uint32_t dtype, const uint8_t *data, uint64_t from, uint64_t count,
                           double magnitudes[LOOKS_AT_ONCE])
{
    const unsigned bytes = dtype_of(dtype).element_bytes;
    const uint64_t apart = spacing(count, REACH_LOOK), left = (count - from + apart - 1) / apart;
    size_t n = left < LOOKS_AT_ONCE ? (size_t)left : LOOKS_AT_ONCE;
    if (apart == 1)
        load_wide(dtype, data + from * bytes, n, magnitudes);
    for (size_t i = 0; apart > 1 && i < n; i++)
        magnitudes[i] = load_as_double(dtype, data + (from + i * apart) * bytes);
    for (size_t i = 0; i < n; i++)
        magnitudes[i] = magnitudes[i] < 0 ? -magnitudes[i] : magnitudes[i];
    return n;
}

double szd_reach(uint32_t dtype, const uint8_t *data, uint64_t count)
{
    double largest[2 * REACH_LOOK / BEYOND_REACH], x[LOOKS_AT_ONCE]; /* largest: negated */
    size_t kept = 0, finite = 0;
    if (dtype > DT_F64)
        return 0;
    fp_environment saved = fp_enter();
    for (uint64_t from = 0; from < count; from += LOOKS_AT_ONCE * spacing(count, REACH_LOOK)) {
        size_t n = look_at_some(dtype, data, from, count, x);
        for (size_t i = 0; i < n; i++)
            if (x[i] < (double)INFINITY) {
                kept = insert(largest, kept, sizeof largest / sizeof *largest, -x[i]);
                finite++;
            }
    }
    fp_leave(saved);
    return finite ? -largest[finite / BEYOND_REACH] : 0;
}

uint32_t szd_reach_within(uint32_t dtype, const uint8_t *data, uint64_t count, double limit)
{
    double x[LOOKS_AT_ONCE];
    uint64_t finite = 0, beyond = 0;
    if (dtype > DT_F64)
        return 0;
    fp_environment saved = fp_enter();
    for (uint64_t from = 0; from < count; from += LOOKS_AT_ONCE * spacing(count, REACH_LOOK)) {
        size_t n = look_at_some(dtype, data, from, count, x);
        for (size_t i = 0; i < n; i++) {
            finite += x[i] < (double)INFINITY;
            beyond += limit < x[i] && x[i] < (double)INFINITY;
        }
    }
    fp_leave(saved);
    return 0 <= limit && beyond <= finite / BEYOND_REACH;
}
