/* A look over a tensor's values, and over the difference of two tensors. The order of summation is fixed. */
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

/* Float32's own loop. Sixteen accumulators of each kind: a loop over them vectorises, where one would have to be reassociated. */
typedef struct lanes32 {
    float min[16], max[16], least[16];
    uint32_t finite[16], zeros[16];
} lanes32;

INLINE void look32_body(const float *x, size_t groups, lanes32 *a)
{
    const float huge = 0x1.fffffep127f;
    lanes32 l = *a;
    for (size_t g = 0; g < groups; g++)
        for (size_t k = 0; k < 16; k++) {
            float v = x[16 * g + k], m = v < 0 ? -v : v;
            uint32_t finite = m <= huge, zero = v == 0;
            float low = finite ? v : huge, high = finite ? v : -huge, small = zero ? huge : m;
            l.finite[k] += finite;
            l.zeros[k] += zero;
            l.min[k] = low < l.min[k] ? low : l.min[k];
            l.max[k] = high > l.max[k] ? high : l.max[k];
            l.least[k] = small < l.least[k] ? small : l.least[k];
        }
    *a = l;
}

static void look32_scalar(const float *x, size_t groups, lanes32 *a) { look32_body(x, groups, a); }
TARGET_AVX2 static void look32_avx2(const float *x, size_t groups, lanes32 *a) { look32_body(x, groups, a); }
TARGET_AVX512 static void look32_avx512(const float *x, size_t groups, lanes32 *a) { look32_body(x, groups, a); }

static void look32(const uint8_t *data, uint64_t count, extremes *e)
{
    float x[CHUNK];
    lanes32 a;
    uint32_t isa = isa_resolve(SZD_ISA_AUTO);
    memset(&a, 0, sizeof a);
    for (unsigned k = 0; k < 16; k++) {
        a.min[k] = a.least[k] = 0x1.fffffep127f;
        a.max[k] = -0x1.fffffep127f;
    }
    uint64_t whole = count & ~(uint64_t)15;
    for (uint64_t done = 0; done < whole; done += CHUNK) {
        size_t n = whole - done < CHUNK ? (size_t)(whole - done) : CHUNK;
        memcpy(x, data + 4 * done, 4 * n);
        (isa >= SZD_ISA_AVX512 ? look32_avx512 : isa == SZD_ISA_AVX2 ? look32_avx2 : look32_scalar)(x, n / 16, &a);
    }
    look(DT_F32, data + 4 * whole, count - whole, e);
    for (unsigned k = 0; k < 16; k++) {
        e->finite += a.finite[k];
        e->zeros += a.zeros[k];
        if (a.finite[k]) {
            e->min = a.min[k] < e->min ? a.min[k] : e->min;
            e->max = a.max[k] > e->max ? a.max[k] : e->max;
        }
        if (a.finite[k] > a.zeros[k])
            e->least = a.least[k] < e->least ? a.least[k] : e->least;
    }
}

int szd_stats_of(uint32_t dtype, const uint8_t *data, uint64_t count, szd_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    if (!supported(dtype))
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    const double huge = 0x1.fffffffffffffp1023;
    extremes e = {huge, -huge, huge, 0, 0};
    if (dtype == DT_F32)
        look32(data, count, &e);
    else
        look(dtype, data, count, &e);
    unsigned bytes = dtype_of(dtype).element_bytes;
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
