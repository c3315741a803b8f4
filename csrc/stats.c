/* A look over a tensor's values, and over the difference of two tensors. The order of summation is fixed. */
#include "convert.h"
#include "fpenv.h"
#include "internal.h"

static bool is_finite(double x) { return x - x == 0; }
static double magnitude(double x) { return x < 0 ? -x : x; }

static bool supported(uint32_t dtype) { return dtype <= DT_F64; }

typedef struct extremes {
    double min, max, least;
    uint64_t finite, zeros;
} extremes;

static void look(uint32_t dtype, const uint8_t *data, uint64_t count, extremes *e)
{
    unsigned bytes = dtype_of(dtype).element_bytes;
    for (uint64_t i = 0; i < count; i++) {
        double x = load_as_double(dtype, data + i * bytes);
        if (!is_finite(x))
            continue;
        e->finite++;
        e->zeros += x == 0;
        e->min = x < e->min ? x : e->min;
        e->max = x > e->max ? x : e->max;
        if (x != 0 && magnitude(x) < e->least)
            e->least = magnitude(x);
    }
}

/* The loop over many, for both widths. Sixteen accumulators of each kind: a loop over them vectorises, where one would have to be
 * reassociated. */
#define LOOK(name, type, huge, target)                                                          \
    target static void name(const type *x, size_t groups, lanes_##type *a)                      \
    {                                                                                           \
        lanes_##type l = *a;                                                                    \
        for (size_t g = 0; g < groups; g++)                                                     \
            for (size_t k = 0; k < 16; k++) {                                                   \
                type v = x[16 * g + k], m = v < 0 ? -v : v;                                     \
                bool finite = m <= (huge), zero = v == 0;                                       \
                type low = finite ? v : (huge), high = finite ? v : -(huge), small = zero ? (huge) : m; \
                l.finite[k] += finite;                                                          \
                l.zeros[k] += zero;                                                             \
                l.min[k] = low < l.min[k] ? low : l.min[k];                                     \
                l.max[k] = high > l.max[k] ? high : l.max[k];                                   \
                l.least[k] = small < l.least[k] ? small : l.least[k];                           \
            }                                                                                   \
        *a = l;                                                                                 \
    }
#define LOOK_TYPE(type, huge)                                                                   \
    typedef struct lanes_##type {                                                               \
        type min[16], max[16], least[16];                                                       \
        uint32_t finite[16], zeros[16];                                                         \
    } lanes_##type;                                                                             \
    LOOK(look_##type##_scalar, type, huge, )                                                    \
    LOOK(look_##type##_avx2, type, huge, TARGET_AVX2)                                           \
    LOOK(look_##type##_avx512, type, huge, TARGET_AVX512)                                       \
    static void look_##type(const type *x, size_t n, uint32_t isa, extremes *e)                 \
    {                                                                                           \
        lanes_##type a;                                                                         \
        memset(&a, 0, sizeof a);                                                                \
        for (size_t k = 0; k < 16; k++) {                                                       \
            a.min[k] = a.least[k] = (huge);                                                     \
            a.max[k] = -(huge);                                                                 \
        }                                                                                       \
        (isa >= SZD_ISA_AVX512 ? look_##type##_avx512 : isa == SZD_ISA_AVX2 ? look_##type##_avx2 : look_##type##_scalar)(x, n / 16, &a); \
        for (size_t k = 0; k < 16; k++)                                                         \
            merge(e, a.finite[k], a.zeros[k], (double)a.min[k], (double)a.max[k], (double)a.least[k]); \
    }

static void merge(extremes *e, uint64_t finite, uint64_t zeros, double min, double max, double least)
{
    e->finite += finite;
    e->zeros += zeros;
    if (finite) {
        e->min = min < e->min ? min : e->min;
        e->max = max > e->max ? max : e->max;
    }
    if (finite > zeros)
        e->least = least < e->least ? least : e->least;
}

LOOK_TYPE(float, 0x1.fffffep127f)
LOOK_TYPE(double, 0x1.fffffffffffffp1023)

static void look_chunks(uint32_t dtype, const uint8_t *data, uint64_t whole, uint32_t isa, extremes *e)
{
    float single[CHUNK];
    double wide[CHUNK];
    unsigned bytes = dtype_of(dtype).element_bytes;
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
    extremes e = {huge, -huge, huge, 0, 0};
    unsigned bytes = dtype_of(dtype).element_bytes;
    uint64_t whole = count & ~(uint64_t)15;
    look_chunks(dtype, data, whole, isa_resolve(options->isa), &e);
    look(dtype, data + whole * bytes, count - whole, &e);
    *stats = (szd_stats){e.finite, e.zeros, e.finite ? e.min : 0, e.finite ? e.max : 0, e.finite > e.zeros ? e.least : 0, 1};
    if (count > 1)
        stats->constant = memcmp(data, data + bytes, (size_t)(count - 1) * bytes) == 0;
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

int szd_compare(uint32_t dtype, const uint8_t *original, const uint8_t *decoded, uint64_t count, double eps,
                double pointwise, double unit, szd_difference *d)
{
    memset(d, 0, sizeof *d);
    if (!supported(dtype) || !(unit > 0))
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    unsigned bytes = dtype_of(dtype).element_bytes;
    exact_sum squares = {0, 0};
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *p = original + i * bytes, *r = decoded + i * bytes;
        bool same = memcmp(p, r, bytes) == 0;
        double x = load_as_double(dtype, p), y = load_as_double(dtype, r);
        d->unequal += !same;
        d->violations += !kept(x, y, same, eps, pointwise);
        if (!is_finite(x))
            continue;
        double error = magnitude(x - y), allowed = pointwise > 0 ? pointwise * magnitude(x) : eps;
        d->finite++;
        add(&squares, error / unit * (error / unit));
        d->max_error = error > d->max_error ? error : d->max_error;
        if (error > 0 && allowed > 0 && error / allowed > d->max_fraction)
            d->max_fraction = error / allowed;
    }
    d->sum_squares = squares.hi + squares.lo;
    fp_leave(saved);
    return SZD_OK;
}
