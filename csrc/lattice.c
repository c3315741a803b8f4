/* Values to lattice integers and back (FORMAT.md, section 6, step 6). The only stage that knows the dtype.
 *
 * The encoder reconstructs with the decoder's own function and compares: a value is good when |x - x'| < eps in
 * floating point, which is sound since rounding is monotonic; at equality, and for the rare value that the quick test
 * refuses, the difference and its rounding error (TwoSum) decide exactly.
 */
#include "convert.h"
#include "internal.h"

#define ROUND32 12582912.0f            /* 1.5 2^23: adding it rounds a float of magnitude below 2^22 to an integer */
#define ROUND64 6755399441055744.0     /* 1.5 2^52: the same for doubles below 2^51 */
#define HIGH_LIMIT ((double)(1 << 30)) /* of the high part of a lattice integer */

void lattice_begin(lattice *l, const szd_header *h, uint32_t isa)
{
    memset(l, 0, offsetof(lattice, powers));
    l->dtype = h->dtype;
    l->kind = h->kind;
    l->isa = isa_resolve(isa);
    l->eps = h->eps;
    l->step = h->step;
    l->inverse = h->step > 0 ? 1 / h->step : 0;
    l->wide_bits = h->wide_bits;
    if (h->kind == SZD_LINEAR32) {
        l->step32 = (float)h->step;
        l->inverse32 = 1 / l->step32;
        l->eps32 = float_below(h->eps);
    }
    if (h->has_axis) {
        l->axis_eps = h->axis_eps;
        l->axis_index = h->axis_index;
        l->step_per_eps = h->step / h->eps;
        l->axis_count = h->shape[h->axis];
        l->axis_inner = 1;
        for (unsigned a = h->axis + 1; a < h->rank; a++)
            l->axis_inner *= h->shape[a];
    }
    if (h->kind == SZD_GEOMETRIC) {
        l->points = h->points_per_octave;
        l->first = h->first_index;
        l->has_signs = h->has_signs;
        l->pointwise = h->pointwise;
        geometric_begin(l, largest_tile(h));
    }
}

/* The largest float32 not above a positive double. */
float float_below(double v)
{
    if (v >= 0x1.fffffep127)
        return 0x1.fffffep127f;
    float f = (float)v;
    return (double)f > v ? f32_from_bits(f32_bits(f) - 1) : f;
}

/* |x - y| <= eps in real arithmetic: the error of the difference is computed exactly (Knuth's TwoSum). */
bool within(double x, double y, double eps)
{
    double d = x - y, magnitude = d < 0 ? -d : d;
    if (magnitude != eps)
        return magnitude < eps;
    double b = d - x, error = (x - (d - b)) - (y + b);
    return (d < 0 ? -error : error) <= 0;
}

/* |x - y| <= r |x| for y of x's sign and magnitude. The strict test is sound by monotonic rounding; equality is refused
 * unless both are zero. */
bool within_pointwise(double x, double y, double r)
{
    double d = x - y, magnitude = d < 0 ? -d : d;
    return d == 0 || ((x < 0) == (y < 0) && y != 0 && magnitude < r * (x < 0 ? -x : x));
}

double load_as_double(uint32_t dtype, const uint8_t *p)
{
    uint16_t half;
    float single;
    double d;
    switch (dtype) {
    case DT_F16: memcpy(&half, p, 2); return f16_to_f32(half);
    case DT_BF16: memcpy(&half, p, 2); return bf16_to_f32(half);
    case DT_F32: memcpy(&single, p, 4); return single;
    default: memcpy(&d, p, 8); return d;
    }
}

/* Not below eps, or NaN: patterns of floats without sign order as integers do. A loop of these vectorises where one
 * with a float comparison would not. */
INLINE uint32_t refused32(float x, float y, float eps)
{
    return (int32_t)(f32_bits(x - y) & 0x7fffffff) >= (int32_t)f32_bits(eps);
}

/* The nearest integer as the low bits of t + 1.5 2^23. Beyond 2^22, and for NaN, it is some integer, whose
 * reconstruction is refused like any other that is too far off. */
INLINE uint32_t quantize32_loop(uint32_t dtype, const uint8_t *values, size_t n, float step, float inverse, float eps,
                                int32_t *q)
{
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        float x = load_float(dtype, values, i);
        q[i] = (int32_t)(f32_bits(x * inverse + ROUND32) - f32_bits(ROUND32));
        worst |= refused32(x, as_stored(dtype, (float)q[i] * step), eps);
    }
    return worst;
}

INLINE void mark32_loop(uint32_t dtype, const uint8_t *values, size_t n, float step, float eps, const int32_t *q,
                        uint8_t *bad)
{
    for (size_t i = 0; i < n; i++)
        bad[i] = (uint8_t)refused32(load_float(dtype, values, i), as_stored(dtype, (float)q[i] * step), eps);
}

/* Whether any value was refused by the quick test; only then are they looked for once more, to mark them. */
INLINE size_t quantize32_of(uint32_t dtype, const lattice *l, const uint8_t *values, size_t n, int32_t *q, uint8_t *bad)
{
    uint32_t worst = quantize32_loop(dtype, values, n, l->step32, l->inverse32, l->eps32, q);
    if (worst)
        mark32_loop(dtype, values, n, l->step32, l->eps32, q, bad);
    return worst;
}

INLINE size_t quantize32_body(const lattice *l, const uint8_t *values, size_t n, int32_t *q, uint8_t *bad)
{
    switch (l->dtype) {
    case DT_F32: return quantize32_of(DT_F32, l, values, n, q, bad);
    case DT_BF16: return quantize32_of(DT_BF16, l, values, n, q, bad);
    default: return quantize32_of(DT_F16, l, values, n, q, bad);
    }
}

INLINE void reconstruct32_of(uint32_t dtype, float step, const int32_t *q, size_t n, uint8_t *values)
{
    for (size_t i = 0; i < n; i++)
        store_float(dtype, (float)q[i] * step, values, i);
}

INLINE void reconstruct32_body(const lattice *l, const int32_t *q, size_t n, uint8_t *values)
{
    switch (l->dtype) {
    case DT_F32: reconstruct32_of(DT_F32, l->step32, q, n, values); break;
    case DT_BF16: reconstruct32_of(DT_BF16, l->step32, q, n, values); break;
    default: reconstruct32_of(DT_F16, l->step32, q, n, values);
    }
}

static size_t quantize32_scalar(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint8_t *bad)
{
    return quantize32_body(l, v, n, q, bad);
}
TARGET_AVX2 static size_t quantize32_avx2(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint8_t *bad)
{
    return quantize32_body(l, v, n, q, bad);
}
TARGET_AVX512 static size_t quantize32_avx512(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint8_t *bad)
{
    return quantize32_body(l, v, n, q, bad);
}
static void reconstruct32_scalar(const lattice *l, const int32_t *q, size_t n, uint8_t *v)
{
    reconstruct32_body(l, q, n, v);
}
TARGET_AVX2 static void reconstruct32_avx2(const lattice *l, const int32_t *q, size_t n, uint8_t *v)
{
    reconstruct32_body(l, q, n, v);
}
TARGET_AVX512 static void reconstruct32_avx512(const lattice *l, const int32_t *q, size_t n, uint8_t *v)
{
    reconstruct32_body(l, q, n, v);
}

static size_t quantize32(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint8_t *bad)
{
    return PICK(l->isa, quantize32)(l, v, n, q, bad);
}

/* The bound and step of one element: along an axis, or the frame's. */
static double eps_at(const lattice *l, uint64_t index)
{
    return l->axis_eps ? axis_eps_of(l->axis_eps, l->axis_index, index / l->axis_inner % l->axis_count) : l->eps;
}

double lattice_step_at(const lattice *l, uint64_t index)
{
    return l->axis_eps ? l->step_per_eps * eps_at(l, index) : l->step;
}

/* A double rounded to the dtype, as a double again. */
static double stored64(uint32_t dtype, double x) { return dtype == DT_F64 ? x : (double)as_stored(dtype, (float)x); }

static double linear64_value(const lattice *l, int32_t high, uint32_t low, double step)
{
    int64_t whole = (int64_t)((uint64_t)(int64_t)high << l->wide_bits | low);
    return stored64(l->dtype, (double)whole * step);
}

/* The nearest integer, kept within the limit. */
INLINE double round64(double t, double limit)
{
    t = t < limit ? t : limit; /* NaN too */
    t = t > -limit ? t : -limit;
    return (t + ROUND64) - ROUND64;
}

static double limit64(const lattice *l) { return (HIGH_LIMIT - 1) * (double)(1u << l->wide_bits); }

/* A step of its own for each element. */
static void quantize_axis(const lattice *l, const uint8_t *values, uint64_t first, size_t n, int32_t *q, uint32_t *low)
{
    const unsigned bytes = dtype_of(l->dtype).element_bytes, wide = l->wide_bits;
    for (size_t i = 0; i < n; i++) {
        double t = load_as_double(l->dtype, values + i * bytes) * (1 / lattice_step_at(l, first + i));
        int64_t whole = (int64_t)round64(t, limit64(l));
        q[i] = (int32_t)(whole >> wide);
        if (wide)
            low[i] = (uint32_t)whole & ((1u << wide) - 1);
    }
}

/* Whether any value was refused by the quick test, for one step and float64 or float32 values. */
INLINE size_t quantize64_loop(const lattice *l, bool is_double, const double *x, size_t n, int32_t *q, uint32_t *low,
                              uint8_t *bad)
{
    const double limit = limit64(l), inverse = l->inverse, step = l->step, eps = l->eps;
    const unsigned wide = l->wide_bits;
    const uint32_t mask = (1u << wide) - 1;
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        double rounded = round64(x[i] * inverse, limit), y = rounded * step;
        double error = x[i] - (is_double ? y : (double)(float)y);
        uint32_t refused = !((error < 0 ? -error : error) < eps);
        int64_t whole = (int64_t)rounded;
        q[i] = (int32_t)(whole >> wide);
        low[i] = (uint32_t)whole & mask;
        bad[i] = (uint8_t)refused;
        worst |= refused;
    }
    return worst;
}

INLINE size_t quantize64_body(const lattice *l, const uint8_t *values, size_t n, int32_t *q, uint32_t *low,
                              uint8_t *bad)
{
    double x[CHUNK];
    float single[CHUNK];
    if (l->dtype == DT_F64) {
        memcpy(x, values, 8 * n);
        return quantize64_loop(l, true, x, n, q, low, bad);
    }
    load_floats(l->dtype, values, n, single);
    for (size_t i = 0; i < n; i++)
        x[i] = single[i];
    size_t refused = quantize64_loop(l, false, x, n, q, low, bad);
    if (l->dtype != DT_F32) /* the loop rounds to float32 only: let the exact test see to the narrower ones */
        memset(bad, 1, n);
    return refused || l->dtype != DT_F32;
}

static size_t quantize64_scalar(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint32_t *low, uint8_t *bad)
{
    return quantize64_body(l, v, n, q, low, bad);
}
TARGET_AVX2 static size_t quantize64_avx2(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint32_t *low,
                                          uint8_t *bad)
{
    return quantize64_body(l, v, n, q, low, bad);
}
TARGET_AVX512 static size_t quantize64_avx512(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint32_t *low,
                                              uint8_t *bad)
{
    return quantize64_body(l, v, n, q, low, bad);
}

static size_t quantize64(const lattice *l, const uint8_t *v, size_t n, int32_t *q, uint32_t *low, uint8_t *bad)
{
    return PICK(l->isa, quantize64)(l, v, n, q, low, bad);
}

static void quantize_geometric(const lattice *l, const uint8_t *values, size_t n, int32_t *q)
{
    double x[CHUNK];
    load_wide(l->dtype, values, n, x);
    geometric_indices(l, x, n, q);
}

/* What the decoder makes of (q, low), as a double. Element `index` of the tensor. */
static double value_of(const lattice *l, int32_t q, uint32_t low, uint64_t index)
{
    switch (l->kind) {
    case SZD_LINEAR32: return as_stored(l->dtype, (float)q * l->step32);
    case SZD_LINEAR64: return linear64_value(l, q, low, lattice_step_at(l, index));
    default: return stored64(l->dtype, geometric_value(l, q));
    }
}

static bool is_zero_pattern(double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    return u == 0;
}

/* The promise for one value: within the bound; zeros stay zeros, under PointwiseRel with their sign; NaN and infinities
 * are refused. */
static bool acceptable(const lattice *l, double x, double y, uint64_t index)
{
    if (l->kind == SZD_GEOMETRIC) /* geometric_indices gives 0, a zero, to what it cannot represent */
        return x == 0 ? is_zero_pattern(x) && y == 0 : within_pointwise(x, y, l->pointwise);
    if (x == 0)
        return y == 0;
    return within(x, y, eps_at(l, index));
}

/* Lattice integers, and in bad[] which of them the quick test refuses; zero if none. */
static size_t quantize_quickly(const lattice *l, const uint8_t *values, uint64_t first, size_t n, int32_t *q,
                               uint32_t *low, uint8_t *bad)
{
    if (l->kind == SZD_LINEAR32)
        return quantize32(l, values, n, q, bad);
    if (l->kind == SZD_LINEAR64 && !l->axis_eps)
        return quantize64(l, values, n, q, low, bad);
    memset(bad, 1, n);
    if (l->kind == SZD_LINEAR64)
        quantize_axis(l, values, first, n, q, low);
    else
        quantize_geometric(l, values, n, q);
    return n;
}

size_t lattice_quantize(const lattice *l, const uint8_t *values, uint64_t first, size_t n, int32_t *q, uint32_t *low,
                        uint8_t *bad)
{
    if (!quantize_quickly(l, values, first, n, q, low, bad))
        return 0;
    unsigned bytes = dtype_of(l->dtype).element_bytes;
    size_t refused = 0;
    for (size_t i = next_nonzero(bad, 0, n); i < n; i = next_nonzero(bad, i + 1, n)) {
        double x = load_as_double(l->dtype, values + i * bytes),
               y = value_of(l, q[i], l->wide_bits ? low[i] : 0, first + i);
        bad[i] = !acceptable(l, x, y, first + i);
        refused += bad[i];
    }
    return refused;
}

static void store_double(uint32_t dtype, double x, uint8_t *p)
{
    float single = (float)x;
    if (dtype == DT_F64)
        memcpy(p, &x, 8);
    else
        store_floats(dtype, &single, 1, p);
}

/* Float64 and float32 values of a linear lattice with one step. */
INLINE void reconstruct64_body(const lattice *l, const int32_t *q, const uint32_t *low, size_t n, uint8_t *values)
{
    double x[CHUNK];
    float single[CHUNK];
    if (low)
        for (size_t i = 0; i < n; i++)
            x[i] = (double)(int64_t)((uint64_t)(int64_t)q[i] << l->wide_bits | low[i]) * l->step;
    else
        for (size_t i = 0; i < n; i++)
            x[i] = (double)q[i] * l->step;
    if (l->dtype == DT_F64) {
        memcpy(values, x, 8 * n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        single[i] = (float)x[i];
    store_floats(l->dtype, single, n, values);
}

static void reconstruct64_scalar(const lattice *l, const int32_t *q, const uint32_t *low, size_t n, uint8_t *v)
{
    reconstruct64_body(l, q, low, n, v);
}
TARGET_AVX2 static void reconstruct64_avx2(const lattice *l, const int32_t *q, const uint32_t *low, size_t n,
                                           uint8_t *v)
{
    reconstruct64_body(l, q, low, n, v);
}
TARGET_AVX512 static void reconstruct64_avx512(const lattice *l, const int32_t *q, const uint32_t *low, size_t n,
                                               uint8_t *v)
{
    reconstruct64_body(l, q, low, n, v);
}

void lattice_reconstruct(const lattice *l, const int32_t *q, const uint32_t *low, uint64_t first, size_t n,
                         uint8_t *values)
{
    if (l->kind == SZD_LINEAR32) {
        PICK(l->isa, reconstruct32)(l, q, n, values);
        return;
    }
    if (l->kind == SZD_LINEAR64 && !l->axis_eps) {
        PICK(l->isa, reconstruct64)(l, q, low, n, values);
        return;
    }
    unsigned bytes = dtype_of(l->dtype).element_bytes;
    for (size_t i = 0; i < n; i++)
        store_double(l->dtype, value_of(l, q[i], low ? low[i] : 0, first + i), values + i * bytes);
}
