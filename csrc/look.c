/* Looks at a few evenly spaced values of a tensor that spare most of them a closer one. */
#include "convert.h"
#include "fpenv.h"
#include "internal.h"
#include <math.h>

enum {
    ENDS = 5,
    SPREAD_LOOK = 256,
    GRID_LOOK = 64,
    GRID_PART = 512,
    LEAST_LOOK = 9,
    REACH_LOOK = 4096,
    LOOKS_AT_ONCE = 256,
    BEYOND_REACH = 256
};

/* The distance of about `looks` evenly spaced values, fewer than twice as many. */
static uint64_t spacing(uint64_t count, uint64_t looks) { return count / looks ? count / looks : 1; }

/* A value as a number; NaN comes after all others. */
static double ordered(uint32_t dtype, const uint8_t *data, uint64_t i)
{
    double x = load_as_double(dtype, data + i * dtype_of(dtype).element_bytes);
    return x == x ? x : (double)INFINITY;
}

/* Puts x into its place among the least `most` of a rising list; the number that there are now. */
static size_t insert(double *list, size_t count, size_t most, double x)
{
    if (count == most && x >= list[most - 1])
        return count;
    size_t i = count < most ? count++ : most - 1;
    for (; i > 0 && list[i - 1] > x; i--)
        list[i] = list[i - 1];
    list[i] = x;
    return count;
}

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

/* Whether rising magnitudes are no multiples of a common number of at least `least`: two lie closer together. */
static bool is_dense(const double *magnitudes, size_t n, double least)
{
    double nearest = 0;
    for (size_t i = 1; i < n; i++) {
        double gap = magnitudes[i] - magnitudes[i - 1];
        if (gap > least / 4 && (nearest == 0 || gap < nearest))
            nearest = gap;
    }
    return nearest < least;
}

uint32_t szd_has_no_grid(uint32_t dtype, const uint8_t *data, uint64_t count, double eps, double least, double most)
{
    double magnitudes[2 * GRID_LOOK];
    size_t looks = 0, near = 0;
    if (dtype > DT_F64 || !(eps > 0x1p-900 && eps < 0x1p900))
        return 0;
    fp_environment saved = fp_enter();
    for (uint64_t i = 0; i < count; i += spacing(count, GRID_LOOK)) {
        double x = ordered(dtype, data, i);
        x = x < 0 ? -x : x;
        if (x < (double)INFINITY)
            looks = insert(magnitudes, looks, 2 * GRID_LOOK, x);
    }
    while (near < looks && magnitudes[near] < most)
        near++;
    bool none = (double)near < (double)looks * 0.9;
    if (!none && near >= 2 && magnitudes[near - 1] > eps)
        none = is_dense(magnitudes, near, least);
    fp_leave(saved);
    return none;
}

/* Integers by the sum with 1.5 2^52, to even; farther out than 2^51 they are multiples of more. NaN are on the grid. */
INLINE uint32_t off_grid_body(const double *x, size_t n, double unit, double room)
{
    const double inverse = 1 / unit;
    uint32_t off = 0;
    for (size_t i = 0; i < n; i++) {
        double distance = ((x[i] * inverse + 0x1.8p52) - 0x1.8p52) * unit - x[i];
        off += (distance < 0 ? -distance : distance) > room;
    }
    return off;
}
#define OFF_GRID(isa, target)                                                                  \
    target static uint32_t off_grid_##isa(const double *x, size_t n, double unit, double room) \
    {                                                                                          \
        return off_grid_body(x, n, unit, room);                                                \
    }
OFF_GRID(scalar, )
OFF_GRID(avx2, TARGET_AVX2)
OFF_GRID(avx512, TARGET_AVX512)

uint64_t szd_off_grid(uint32_t dtype, const uint8_t *data, uint64_t count, double unit, double room)
{
    double x[CHUNK];
    uint64_t off = 0;
    if (dtype > DT_F64)
        return count;
    fp_environment saved = fp_enter();
    uint32_t isa = isa_resolve(SZD_ISA_AUTO);
    for (uint64_t from = 0; from < count; from += CHUNK) {
        size_t n = count - from < CHUNK ? (size_t)(count - from) : CHUNK;
        load_wide(dtype, data + from * dtype_of(dtype).element_bytes, n, x);
        off += PICK(isa, off_grid)(x, n, unit, room);
    }
    fp_leave(saved);
    return off;
}
