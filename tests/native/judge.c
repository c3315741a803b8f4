/* The soak's judge: does every value keep its promise, in exact arithmetic? Shares no line with the core.
 *
 * A correctly rounded difference below a float64 bound proves the exact one below it, one above proves it above; where
 * they are equal, the rounding error (TwoSum, Knuth) decides. A bound r |x| is no float64: what is within a few ulps of
 * it is listed for rational arithmetic. Float16, bfloat16 and float32 are exact as float64.
 * To be built without contraction and without fast math. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum format { F16 = 0, BF16 = 1, F32 = 2, F64 = 3 };
enum { PART = 512 };
#define INLINE static inline __attribute__((always_inline))

/* How many values broke which rule, and the first of each. */
typedef struct verdict {
    uint64_t special, zero, unfinite, beyond, sign; /* NaN or infinity changed, zero changed ... */
    uint64_t first[5];
    uint64_t near; /* too near a pointwise bound for float64: their places were listed */
} verdict;

INLINE uint64_t pattern(enum format f, const void *p, size_t i)
{
    return f == F64 ? ((const uint64_t *)p)[i] : f == F32 ? ((const uint32_t *)p)[i] : ((const uint16_t *)p)[i];
}

INLINE uint64_t magnitude(enum format f, uint64_t u)
{
    return f == F64 ? u & INT64_MAX : f == F32 ? u & INT32_MAX : u & INT16_MAX;
}

/* The pattern of infinity. */
INLINE uint64_t infinity_of(enum format f)
{
    return f == F64 ? (uint64_t)0x7ff << 52 : f == F32 ? 0x7f800000 : f == BF16 ? 0x7f80 : 0x7c00;
}

INLINE float as_float(uint32_t u)
{
    float v;
    memcpy(&v, &u, 4);
    return v;
}

/* Right for what is finite. */
INLINE double value(enum format f, uint64_t u)
{
    double d;
    switch (f) {
    case F16: /* the exponent's bias is corrected by an exact product, denormals too */
        return (double)(as_float((uint32_t)(u & 0x8000) << 16 | (uint32_t)(u & 0x7fff) << 13) * 0x1p112f);
    case BF16: return (double)as_float((uint32_t)u << 16);
    case F32: return (double)as_float((uint32_t)u);
    default: memcpy(&d, &u, 8); return d;
    }
}

INLINE void count(uint64_t *broken, uint64_t *first, size_t i)
{
    if (!(*broken)++)
        *first = i;
}

/* Where float64 can't tell, 0; where the value is beyond r |x|, 1; within, -1. Brought into the middle of the range by
 * a power of two, the difference and the product are within 2^-52 of the exact ones. */
INLINE int pointwise(double x, double y, double r)
{
    double scale = fabs(x) < 0x1p-500 ? 0x1p500 : fabs(x) > 0x1p500 ? 0x1p-500 : 1;
    double limit = r * fabs(x * scale), size = fabs(x * scale - y * scale);
    if (x == y)
        return -1;
    return size < limit * (1 - 0x1p-50) ? -1 : size > limit * (1 + 0x1p-50) ? 1 : 0;
}

/* |x - y| > eps; d is the rounded difference. */
INLINE int absolute(double x, double y, double d, double eps)
{
    double z = d - x, error = (x - (d - z)) - (y + z);
    return fabs(d) > eps || (fabs(d) == eps && ((d > 0 && error > 0) || (d < 0 && error < 0)));
}

INLINE void look(enum format f, int relative, uint64_t u, uint64_t v, size_t i, double bound, verdict *found,
                 uint64_t *near)
{
    uint64_t inf = infinity_of(f);
    if (magnitude(f, u) >= inf) {
        if (u != v)
            count(&found->special, found->first, i);
    } else if (magnitude(f, v) >= inf) {
        count(&found->unfinite, found->first + 2, i);
    } else if (!magnitude(f, u)) {
        if (relative ? u != v : magnitude(f, v) != 0)
            count(&found->zero, found->first + 1, i);
    } else {
        double x = value(f, u), y = value(f, v);
        int over = relative ? pointwise(x, y, bound) : absolute(x, y, x - y, bound);
        if (relative && over == 0)
            near[found->near++] = i;
        else if (over > 0)
            count(&found->beyond, found->first + 3, i);
        if (relative && (magnitude(f, u) == u) != (magnitude(f, v) == v))
            count(&found->sign, found->first + 4, i);
    }
}

/* Whether some of a part's values need a closer look; without branches. */
INLINE int doubtful(enum format f, int relative, const void *x, const void *y, size_t from, size_t to, double bound)
{
    unsigned doubt = 0;
    uint64_t inf = infinity_of(f);
    for (size_t i = from; i < to; i++) {
        uint64_t u = pattern(f, x, i), v = pattern(f, y, i), a = magnitude(f, u), b = magnitude(f, v);
        double p = value(f, u), d = fabs(p - value(f, v));
        double limit = relative ? bound * fabs(p) * (1 - 0x1p-50) : bound;
        unsigned good = (unsigned)(d < limit) & (unsigned)(a < inf) & (unsigned)(b < inf) & (unsigned)(a != 0);
        if (relative)
            good &= (unsigned)(limit > 0x1p-900) & (unsigned)(fabs(p) < 0x1p1000) & (unsigned)((a == u) == (b == v));
        doubt |= good ^ 1;
    }
    return (int)doubt;
}

INLINE void judge_as(enum format f, int relative, const void *x, const void *y, size_t n, double bound, verdict *found,
                     uint64_t *near)
{
    for (size_t from = 0; from < n; from += PART) {
        size_t to = n - from < PART ? n : from + PART;
        if (doubtful(f, relative, x, y, from, to, bound))
            for (size_t i = from; i < to; i++)
                look(f, relative, pattern(f, x, i), pattern(f, y, i), i, bound, found, near);
    }
}

/* One instance of a function a format, and one of each for processors with AVX2. */
#if defined(__x86_64__) && defined(__linux__)
#define FAST __attribute__((target_clones("avx2", "default")))
#else
#define FAST
#endif

/* near: room for n places, with a relative bound. */
FAST void judge(enum format f, int relative, const void *x, const void *y, size_t n, double bound, verdict *found,
                uint64_t *near)
{
    *found = (verdict){0};
    switch (f * 2 + (relative != 0)) {
    case 0: judge_as(F16, 0, x, y, n, bound, found, near); break;
    case 1: judge_as(F16, 1, x, y, n, bound, found, near); break;
    case 2: judge_as(BF16, 0, x, y, n, bound, found, near); break;
    case 3: judge_as(BF16, 1, x, y, n, bound, found, near); break;
    case 4: judge_as(F32, 0, x, y, n, bound, found, near); break;
    case 5: judge_as(F32, 1, x, y, n, bound, found, near); break;
    case 6: judge_as(F64, 0, x, y, n, bound, found, near); break;
    default: judge_as(F64, 1, x, y, n, bound, found, near);
    }
}

/* Of the finite values: how many, both ends, standard deviation (by long doubles: their errors are far below 1e-12 of
 * it, and squares stay in range). */
void spread(enum format f, const void *x, size_t n, uint64_t *finite, double *lo, double *hi, double *deviation)
{
    long double sum = 0, squares = 0;
    *finite = 0, *lo = INFINITY, *hi = -INFINITY, *deviation = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t u = pattern(f, x, i);
        double v = value(f, u);
        if (magnitude(f, u) >= infinity_of(f))
            continue;
        ++*finite, sum += v;
        *lo = v < *lo ? v : *lo, *hi = v > *hi ? v : *hi;
    }
    if (!*finite)
        return;
    long double mean = sum / *finite, rest = 0;
    for (size_t i = 0; i < n; i++)
        if (magnitude(f, pattern(f, x, i)) < infinity_of(f)) {
            long double d = value(f, pattern(f, x, i)) - mean;
            squares += d * d, rest += d;
        }
    long double variance = (squares - rest * rest / *finite) / *finite;
    *deviation = (double)sqrtl(variance > 0 ? variance : 0);
}

/* Root mean square error over the values that are finite in x. */
double rms_error(enum format f, const void *x, const void *y, size_t n)
{
    long double squares = 0;
    size_t finite = 0;
    for (size_t i = 0; i < n; i++)
        if (magnitude(f, pattern(f, x, i)) < infinity_of(f)) {
            long double d = (long double)value(f, pattern(f, x, i)) - value(f, pattern(f, y, i));
            squares += d * d, finite++;
        }
    return finite ? (double)sqrtl(squares / finite) : 0;
}
