/* The interpolation predictor's loops over rows, for float and double and each instruction set (FORMAT.md, section
 * 11). Every operation is rounded by itself, in the order that stands here. */
#include "interp.h"
#include "interp_patterns.h"

#define HALF_OCTAVES 22 /* of a float's pattern: above are the exponent and one bit of the mantissa */
#define LEAST_ACTIVITY ((127 << 1) - 32)

INLINE void load_body_double(uint32_t dtype, const uint8_t *values, size_t n, double *x)
{
    if (dtype == DT_F64)
        memcpy(x, values, 8 * n);
    else
        for (size_t i = 0; i < n; i++)
            x[i] = load_float(dtype, values, i);
}

INLINE void store_body_double(uint32_t dtype, const double *v, size_t n, uint8_t *values)
{
    if (dtype == DT_F64)
        memcpy(values, v, 8 * n);
    else
        for (size_t i = 0; i < n; i++)
            store_float(dtype, (float)v[i], values, i);
}

INLINE void load_body_single(uint32_t dtype, const uint8_t *values, size_t n, float *x)
{
    load_floats(dtype, values, n, x);
}

INLINE void store_body_single(uint32_t dtype, const float *v, size_t n, uint8_t *values)
{
    store_floats(dtype, v, n, values);
}

/* What is the same for all instruction sets. */
#define ENDS(T, name)                                                                                       \
    static void pad_##name(uint8_t *values, size_t n)                                                       \
    {                                                                                                       \
        T *row = (T *)(void *)values, *end = row + n;                                                       \
        row[-1] = row[0] + (row[0] - row[n > 1]);                                                           \
        end[0] = end[-1] + (end[-1] - (n > 1 ? end[-2] : end[-1]));                                         \
        end[1] = end[0] + (end[0] - end[-1]);                                                               \
    }                                                                                                       \
    static double at_##name(const uint8_t *v, size_t i) { return (double)((const T *)(const void *)v)[i]; } \
    static void put_##name(uint8_t *v, size_t i, double x) { ((T *)(void *)v)[i] = (T)x; }

ENDS(float, single)
ENDS(double, double)

#define PASTE_AS_IS(a, b) a##_##b
#define PASTE(a, b) PASTE_AS_IS(a, b)

#define FOR_scalar
#define FOR_avx2 TARGET_AVX2
#define FOR_avx512 TARGET_AVX512
#define BYTES_scalar 16
#define BYTES_avx2 32
#define BYTES_avx512 64

#define ISA scalar
#define DOUBLE 0
#include "interp_loops.inc"
#define ISA scalar
#define DOUBLE 1
#include "interp_loops.inc"
#define ISA avx2
#define DOUBLE 0
#include "interp_loops.inc"
#define ISA avx2
#define DOUBLE 1
#include "interp_loops.inc"
#define ISA avx512
#define DOUBLE 0
#include "interp_loops.inc"
#define ISA avx512
#define DOUBLE 1
#include "interp_loops.inc"

#define ENTRY(T, name, isa)                     \
    {.bytes = sizeof(T),                        \
     .pad = pad_##name,                         \
     .at = at_##name,                           \
     .put = put_##name,                         \
     .dots = dots_##isa,                        \
     .load = load_##name##_##isa,               \
     .store = store_##name##_##isa,             \
     .find_zeros = find_zeros_##name##_##isa,   \
     .survey = survey_##name##_##isa,           \
     .mean = mean_##name##_##isa,               \
     .extend = extend_##name##_##isa,           \
     .weave = weave_##name##_##isa,             \
     .unweave = unweave_##name##_##isa,         \
     .classify = classify_##name##_##isa,       \
     .predict = predict_##name##_##isa,         \
     .snap = snap_##name##_##isa,               \
     .reconstruct = reconstruct_##name##_##isa, \
     .quantize = quantize_##name##_##isa,       \
     .put_zeros = put_zeros_##name##_##isa,     \
     .terms = terms_##name##_##isa,             \
     .target = target_##name##_##isa}

const interp_kernels *interp_kernels_for(bool is_double, uint32_t isa)
{
    static const interp_kernels sets[2][3] = {
        {ENTRY(float, single, scalar), ENTRY(float, single, avx2), ENTRY(float, single, avx512)},
        {ENTRY(double, double, scalar), ENTRY(double, double, avx2), ENTRY(double, double, avx512)}};
    isa = isa_resolve(isa);
    return &sets[is_double][isa >= SZD_ISA_AVX512 ? 2 : isa == SZD_ISA_AVX2];
}
