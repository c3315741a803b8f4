/* A look over a tensor's values, and over the difference of two tensors. The order of summation is fixed. */
#include "convert.h"
#include "fpenv.h"
#include "internal.h"

static bool is_finite(double x) { return x - x == 0; }
static double magnitude(double x) { return x < 0 ? -x : x; }

static bool supported(uint32_t dtype) { return dtype <= DT_F64; }

typedef struct extremes {
    double min, max;
    uint64_t finite;
} extremes;

static void look(uint32_t dtype, const uint8_t *data, uint64_t count, extremes *e)
{
    unsigned bytes = dtype_of(dtype).element_bytes;
    for (uint64_t i = 0; i < count; i++) {
        double x = load_as_double(dtype, data + i * bytes);
        if (!is_finite(x))
            continue;
        e->finite++;
        e->min = x < e->min ? x : e->min;
        e->max = x > e->max ? x : e->max;
    }
}

/* The loop over many, for both widths; false where a value is not finite. So many accumulators of each kind that a loop
 * over them is vectorised, not unrolled; one would have to be reassociated. */
enum { LANES = 32 };
#define LOOK(name, type, target)                                           \
    target static bool name(const type *x, size_t groups, lanes_##type *a) \
    {                                                                      \
        lanes_##type l = *a;                                               \
        for (size_t g = 0; g < groups; g++)                                \
            for (size_t k = 0; k < LANES; k++) {                           \
                type v = x[LANES * g + k];                                 \
                l.min[k] = v < l.min[k] ? v : l.min[k];                    \
                l.max[k] = v > l.max[k] ? v : l.max[k];                    \
                l.odd[k] += v - v;                                         \
            }                                                              \
        *a = l;                                                            \
        for (size_t k = 1; k < LANES; k++)                                 \
            l.odd[0] += l.odd[k];                                          \
        return l.odd[0] == 0;                                              \
    }
#define LOOK_TYPE(type, dtype)                                                       \
    typedef struct lanes_##type {                                                    \
        type min[LANES], max[LANES], odd[LANES]; /* odd: NaN from such a value on */ \
    } lanes_##type;                                                                  \
    LOOK(look_##type##_scalar, type, )                                               \
    LOOK(look_##type##_avx2, type, TARGET_AVX2)                                      \
    LOOK(look_##type##_avx512, type, TARGET_AVX512)                                  \
    static void look_##type(const type *x, size_t n, uint32_t isa, extremes *e)      \
    {                                                                                \
        lanes_##type a;                                                              \
        for (size_t k = 0; k < LANES; k++) {                                         \
            a.min[k] = a.max[k] = x[k];                                              \
            a.odd[k] = 0;                                                            \
        }                                                                            \
        if (!PICK(isa, look_##type)(x, n / LANES, &a)) {                             \
            look(dtype, (const uint8_t *)x, n, e);                                   \
            return;                                                                  \
        }                                                                            \
        e->finite += n;                                                              \
        for (size_t k = 0; k < LANES; k++) {                                         \
            e->min = (double)a.min[k] < e->min ? (double)a.min[k] : e->min;          \
            e->max = (double)a.max[k] > e->max ? (double)a.max[k] : e->max;          \
        }                                                                            \
    }
LOOK_TYPE(float, DT_F32)
LOOK_TYPE(double, DT_F64)

static void look_chunks(uint32_t dtype, const uint8_t *data, uint64_t whole, uint32_t isa, extremes *e)
{
    float single[CHUNK];
    double wide[CHUNK];
    unsigned bytes = dtype_of(dtype).element_bytes;
    if (dtype == DT_F32 && (uintptr_t)data % sizeof(float) == 0) { /* no need for a copy */
        for (uint64_t done = 0; done < whole; done += CHUNK)
            look_float((const float *)(const void *)(data + 4 * done), whole - done < CHUNK ? whole - done : CHUNK, isa,
                       e);
        return;
    }
    for (uint64_t done = 0; done < whole; done += CHUNK) {
        size_t n = whole - done < CHUNK ? (size_t)(whole - done) : CHUNK;
        if (dtype == DT_F64) {
            memcpy(wide, data + 8 * done, 8 * n);
            look_double(wide, n, isa, e);
        } else {
            load_floats(dtype, data + done * bytes, n, single);
            look_float(single, n, isa, e);
        }
    }
}

int szd_stats_of(uint32_t dtype, const szd_options *options, const uint8_t *data, uint64_t count, szd_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    if (!supported(dtype))
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    const double huge = 0x1.fffffffffffffp1023;
    extremes e = {huge, -huge, 0};
    unsigned bytes = dtype_of(dtype).element_bytes;
    uint64_t whole = count & ~(uint64_t)(LANES - 1);
    look_chunks(dtype, data, whole, isa_resolve(options->isa), &e);
    look(dtype, data + whole * bytes, count - whole, &e);
    *stats = (szd_stats){e.finite, e.finite ? e.min : 0, e.finite ? e.max : 0, 1};
    if (count > 1)
        stats->constant = szd_is_constant(dtype, data, count);
    fp_leave(saved);
    return SZD_OK;
}

/* A sum that carries its rounding errors along (Neumaier 1974): hi + lo is good to about twice the digits. */
typedef struct exact_sum {
    double hi, lo;
} exact_sum;

static void add(exact_sum *s, double x)
{
    double t = s->hi + x;
    s->lo += magnitude(s->hi) >= magnitude(x) ? (s->hi - t) + x : (x - t) + s->hi;
    s->hi = t;
}

int szd_moments(uint32_t dtype, const uint8_t *data, uint64_t count, double unit, double centre, double *out)
{
    exact_sum sum = {0, 0}, squares = {0, 0};
    if (!supported(dtype))
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    unsigned bytes = dtype_of(dtype).element_bytes;
    for (uint64_t i = 0; i < count; i++) {
        double x = load_as_double(dtype, data + i * bytes);
        if (!is_finite(x))
            continue;
        double d = x / unit - centre;
        add(&sum, d);
        add(&squares, d * d);
    }
    fp_leave(saved);
    out[0] = sum.hi;
    out[1] = sum.lo;
    out[2] = squares.hi;
    out[3] = squares.lo;
    return SZD_OK;
}

/* One value's promise, and its error as a fraction of the bound. */
static bool kept(double x, double y, bool same_bits, double eps, double pointwise)
{
    if (!is_finite(x))
        return same_bits;
    if (x == 0)
        return y == 0;
    return pointwise > 0 ? within_pointwise(x, y, pointwise) || within(x, y, 0) : within(x, y, eps);
}

/* Zeros that did not stay zeros. */
static uint64_t zeros_lost(const double *x, const double *y, size_t n)
{
    uint64_t lost = 0;
    for (size_t i = 0; i < n; i++)
        lost += x[i] == 0 && y[i] != 0;
    return lost;
}

static uint64_t count_unequal(const uint8_t *p, const uint8_t *r, size_t n, unsigned bytes)
{
    uint64_t unequal = 0;
    if (memcmp(p, r, n * bytes) == 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        unequal += memcmp(p + i * bytes, r + i * bytes, bytes) != 0;
    return unequal;
}

/* Eight sums side by side, each with its rounding errors (Knuth's TwoSum): they do not wait for each other. */
typedef struct sum_lanes {
    double hi[8], lo[8], max[8];
    uint64_t finite[8];
} sum_lanes;

/* n is a multiple of 8. Whether some value needs a closer look: an error not below eps, or a value that is not finite.
 */
INLINE uint32_t differ_body(const double *x, const double *y, size_t n, double eps, double inverse_unit,
                            sum_lanes *sums)
{
    const double huge = 0x1.fffffffffffffp1023;
    sum_lanes s = *sums;
    uint32_t doubtful[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (size_t k = 0; k < 8; k++) {
            double v = x[i + k], d = v - y[i + k], size = v < 0 ? -v : v, error = d < 0 ? -d : d;
            bool finite = size <= huge;
            doubtful[k] |= !(error < eps && finite);
            error = finite ? error : 0;
            s.finite[k] += finite;
            s.max[k] = error > s.max[k] ? error : s.max[k];
            double scaled = error * inverse_unit, square = scaled * scaled, t = s.hi[k] + square, b = t - s.hi[k];
            s.lo[k] += (s.hi[k] - (t - b)) + (square - b);
            s.hi[k] = t;
        }
    *sums = s;
    uint32_t any = 0;
    for (size_t k = 0; k < 8; k++)
        any |= doubtful[k];
    return any;
}

static uint32_t differ_scalar(const double *x, const double *y, size_t n, double eps, double u, sum_lanes *s)
{
    return differ_body(x, y, n, eps, u, s);
}
TARGET_AVX2 static uint32_t differ_avx2(const double *x, const double *y, size_t n, double eps, double u, sum_lanes *s)
{
    return differ_body(x, y, n, eps, u, s);
}
TARGET_AVX512 static uint32_t differ_avx512(const double *x, const double *y, size_t n, double eps, double u,
                                            sum_lanes *s)
{
    return differ_body(x, y, n, eps, u, s);
}

/* Up to CHUNK values as doubles, filled up with zeros to a multiple of 8. */
static size_t load_doubles(uint32_t dtype, const uint8_t *p, size_t n, double *x)
{
    float single[CHUNK];
    if (dtype == DT_F64) {
        memcpy(x, p, 8 * n);
    } else {
        load_floats(dtype, p, n, single);
        for (size_t i = 0; i < n; i++)
            x[i] = single[i];
    }
    size_t whole = (n + 7) & ~(size_t)7;
    for (size_t i = n; i < whole; i++)
        x[i] = 0;
    return whole;
}

/* Value by value: what the quick look could not decide. */
static void look_closer(const uint8_t *p, const uint8_t *r, const double *x, const double *y, size_t n, unsigned bytes,
                        double eps, double pointwise, szd_difference *d)
{
    for (size_t i = 0; i < n; i++) {
        bool same = memcmp(p + i * bytes, r + i * bytes, bytes) == 0;
        d->violations += !kept(x[i], y[i], same, eps, pointwise);
        double allowed = pointwise * magnitude(x[i]), error = magnitude(x[i] - y[i]);
        if (pointwise > 0 && is_finite(x[i]) && error > 0 && allowed > 0 && error / allowed > d->max_fraction)
            d->max_fraction = error / allowed;
    }
}

int szd_compare(uint32_t dtype, const szd_options *options, const uint8_t *original, const uint8_t *decoded,
                uint64_t count, double eps, double pointwise, double unit, szd_difference *d)
{
    memset(d, 0, sizeof *d);
    if (!supported(dtype) || !(unit >= 0x1p-1000 && unit <= 0x1p1000))
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    unsigned bytes = dtype_of(dtype).element_bytes;
    uint32_t isa = isa_resolve(options->isa);
    double x[CHUNK], y[CHUNK];
    sum_lanes sums;
    memset(&sums, 0, sizeof sums);
    for (uint64_t done = 0; done < count; done += CHUNK) {
        const uint8_t *p = original + done * bytes, *r = decoded + done * bytes;
        size_t n = count - done < CHUNK ? (size_t)(count - done) : CHUNK, whole = load_doubles(dtype, p, n, x);
        load_doubles(dtype, r, n, y);
        d->unequal += count_unequal(p, r, n, bytes);
        uint32_t doubtful = PICK(isa, differ)(x, y, whole, eps, 1 / unit, &sums);
        if (doubtful || pointwise > 0)
            look_closer(p, r, x, y, n, bytes, eps, pointwise, d);
        else
            d->violations += zeros_lost(x, y, n);
        d->finite -= whole - n;
    }
    exact_sum squares = {0, 0};
    for (unsigned k = 0; k < 8; k++) {
        d->finite += sums.finite[k];
        d->max_error = sums.max[k] > d->max_error ? sums.max[k] : d->max_error;
        add(&squares, sums.hi[k]);
        add(&squares, sums.lo[k]);
    }
    d->sum_squares = squares.hi + squares.lo;
    if (!(pointwise > 0) && eps > 0)
        d->max_fraction = d->max_error / eps;
    fp_leave(saved);
    return SZD_OK;
}
