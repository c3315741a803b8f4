/* Values that lie on a grid of their own: its unit by Euclid's algorithm on a sample, and how many values are off it.
 */
#include "convert.h"
#include "fpenv.h"
#include "look.h"
#include "radix.h"

enum { FEW_LOOKS = 64, LOOKS = 1024, OFF_RUN = 256, ROUNDS = 3 };

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

/* How many rising magnitudes are below `most`. */
static size_t count_below(const double *magnitudes, size_t n, double most)
{
    size_t below = 0;
    while (below < n && magnitudes[below] < most)
        below++;
    return below;
}

/* Whether a few values tell that there is no grid. */
static bool has_none(uint32_t dtype, const uint8_t *data, uint64_t count, double eps, double least, double most)
{
    double magnitudes[2 * FEW_LOOKS];
    size_t looks = 0;
    if (!(eps > 0x1p-900 && eps < 0x1p900))
        return false;
    for (uint64_t i = 0; i < count; i += spacing(count, FEW_LOOKS)) {
        double x = ordered(dtype, data, i);
        x = x < 0 ? -x : x;
        if (x < (double)INFINITY)
            looks = insert(magnitudes, looks, 2 * FEW_LOOKS, x);
    }
    size_t near = count_below(magnitudes, looks, most);
    if (near < looks / 2)
        return true;
    return near >= 2 && magnitudes[near - 1] > eps && is_dense(magnitudes, near, least);
}

/* Numbers that are not negative, by their bits, which rise with them. */
static void sort(double *v, size_t n)
{
    uint64_t a[2 * LOOKS], b[2 * LOOKS], *from = a, *to = b;
    memcpy(a, v, n * sizeof *v);
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!radix_pass(from, to, n, sizeof *from, shift)) /* the last bits of what was float32 */
            continue;
        uint64_t *sorted = to;
        to = from;
        from = sorted;
    }
    memcpy(v, from, n * sizeof *v);
}

static double nearest_integer(double x) { return (x + 0x1.8p52) - 0x1.8p52; } /* 0 <= x < 2^51 */

/* The least of x that is above `limit`; infinite without any. */
static double least_above(const double *x, size_t n, double limit)
{
    double least = (double)INFINITY;
    for (size_t i = 0; i < n; i++)
        least = x[i] > limit && x[i] < least ? x[i] : least;
    return least;
}

/* About the greatest number of which all rising magnitudes are multiples but for a quarter of `least`; 0 where it is
 * below `least`: Euclid's algorithm on the smallest value and the gaps between values. */
static double common_unit(const double *magnitudes, size_t n, double least)
{
    double gaps[2 * LOOKS], rests[2 * LOOKS];
    size_t count = 0;
    for (size_t i = 1; i < n; i++) {
        gaps[count] = magnitudes[i] - magnitudes[i - 1];
        count += gaps[count] > least / 4;
    }
    if (count == 0 || least_above(gaps, count, 0) < least)
        return 0;
    gaps[count++] = magnitudes[0];
    for (double unit = least_above(gaps, count, least / 4);;) {
        double largest = 0;
        for (size_t i = 0; i < count; i++) {
            double rest = gaps[i] - nearest_integer(gaps[i] / unit) * unit;
            rests[i] = rest < 0 ? -rest : rest;
            largest = rests[i] > largest ? rests[i] : largest;
        }
        if (largest <= least / 4)
            return unit;
        unit = least_above(rests, count, least / 4);
        if (unit < least)
            return 0;
    }
}

/* The unit by least squares, from small multiples to large ones. */
static double fitted(const double *magnitudes, size_t n, double unit)
{
    static const double most[ROUNDS] = {64, 4096, 0x1p20};
    for (unsigned round = 0; round < ROUNDS; round++) {
        const double limit = most[round] * unit, first = unit;
        double products = 0, squares = 0;
        for (size_t i = 0; i < n && magnitudes[i] <= limit; i++) {
            double number = nearest_integer(magnitudes[i] / first);
            products += magnitudes[i] * number;
            squares += number * number;
        }
        unit = squares > 0 ? products / squares : unit;
    }
    return unit;
}

/* Sums of squares of the largest and the smallest floats have no place: all is worked out in parts of a power of two
 * near eps. A few spikes hide no grid; of zeros, or nearly, there is nothing to find. */
static double find_unit(uint32_t dtype, const uint8_t *data, uint64_t count, double eps, double least, double most)
{
    double magnitudes[2 * LOOKS];
    size_t looks = 0;
    int exponent;
    for (uint64_t i = 0; i < count; i += spacing(count, LOOKS)) {
        double x = load_as_double(dtype, data + i * dtype_of(dtype).element_bytes);
        magnitudes[looks] = x < 0 ? -x : x == 0 ? 0 : x;
        looks += magnitudes[looks] < (double)INFINITY;
    }
    sort(magnitudes, looks);
    size_t near = count_below(magnitudes, looks, most);
    if (near < 2 || (double)near < (double)looks * 0.9 || !(magnitudes[near - 1] > eps))
        return 0;
    (void)frexp(eps, &exponent);
    for (size_t i = 0; i < near; i++)
        magnitudes[i] = ldexp(magnitudes[i], -exponent);
    double unit = common_unit(magnitudes, near, ldexp(least, -exponent));
    return unit > 0 ? ldexp(fitted(magnitudes, near, unit), exponent) : 0;
}

double szd_grid_unit(uint32_t dtype, const uint8_t *data, uint64_t count, double eps, double least, double most)
{
    if (dtype > DT_F64 || count == 0)
        return 0;
    fp_environment saved = fp_enter();
    double unit = has_none(dtype, data, count, eps, least, most) ? 0 : find_unit(dtype, data, count, eps, least, most);
    fp_leave(saved);
    return unit;
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

/* In runs of OFF_RUN values, one in so many. */
uint64_t szd_off_grid(uint32_t dtype, const uint8_t *data, uint64_t count, uint64_t share, double unit, double room,
                      uint64_t *seen)
{
    double x[OFF_RUN];
    uint64_t off = 0;
    *seen = count;
    if (dtype > DT_F64 || share == 0)
        return count;
    fp_environment saved = fp_enter();
    uint32_t isa = isa_resolve(SZD_ISA_AUTO);
    *seen = 0;
    for (uint64_t from = 0; from < count; from += OFF_RUN * share) {
        size_t n = count - from < OFF_RUN ? (size_t)(count - from) : OFF_RUN;
        load_wide(dtype, data + from * dtype_of(dtype).element_bytes, n, x);
        off += PICK(isa, off_grid)(x, n, unit, room);
        *seen += n;
    }
    fp_leave(saved);
    return off;
}
