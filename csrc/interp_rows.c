/* The interpolation predictor's loops over rows, for float and double and each instruction set (FORMAT.md, section
 * 10). Every operation is rounded by itself, in the order that stands here. */
#include "convert.h"
#include "interp.h"
#include <float.h>

#define HALF_OCTAVES 22 /* of a float's pattern: above are the exponent and one bit of the mantissa */
#define VECTOR 64       /* bytes; loops may read and compute beyond a row, in memory that is there */
#define LEAST_ACTIVITY ((127 << 1) - 32)

INLINE uint8_t class_of(float activity)
{
    int32_t halves = (int32_t)((f32_bits(activity) & 0x7fffffff) >> HALF_OCTAVES) - LEAST_ACTIVITY;
    halves = halves < 0 ? 0 : halves;
    return (uint8_t)(halves > INTERP_CLASSES - 1 ? INTERP_CLASSES - 1 : halves);
}

INLINE void load_double_body(uint32_t dtype, const uint8_t *values, size_t n, double *x)
{
    if (dtype == DT_F64)
        memcpy(x, values, 8 * n);
    else
        for (size_t i = 0; i < n; i++)
            x[i] = load_float(dtype, values, i);
}

INLINE void store_double_body(uint32_t dtype, const double *v, size_t n, uint8_t *values)
{
    if (dtype == DT_F64)
        memcpy(values, v, 8 * n);
    else
        for (size_t i = 0; i < n; i++)
            store_float(dtype, (float)v[i], values, i);
}

INLINE void load_single_body(uint32_t dtype, const uint8_t *values, size_t n, float *x)
{
    load_floats(dtype, values, n, x);
}

INLINE void store_single_body(uint32_t dtype, const float *v, size_t n, uint8_t *values)
{
    store_floats(dtype, v, n, values);
}

INLINE double stored_double(uint32_t dtype, double v)
{
    return dtype == DT_F64 ? v : (double)as_stored(dtype, (float)v);
}

INLINE float stored_single(uint32_t dtype, float v) { return as_stored(dtype, v); }

/* By patterns, which loops of vectors take where float comparisons stop them. 0 for what is not finite. */
INLINE float finite_single(float v)
{
    uint32_t u = f32_bits(v);
    return f32_from_bits((u & 0x7fffffff) < 0x7f800000 ? u : 0);
}

INLINE uint64_t f64_bits(double v)
{
    uint64_t u;
    memcpy(&u, &v, 8);
    return u;
}

INLINE double finite_double(double v)
{
    uint64_t u = f64_bits(v), kept = (u & 0x7fffffffffffffff) < 0x7ff0000000000000 ? u : 0;
    memcpy(&v, &kept, 8);
    return v;
}

/* Not strictly within eps, NaN too; or a zero that is none any more. */
INLINE uint32_t refused_single(float x, float stored, float eps)
{
    uint32_t far = (f32_bits(x - stored) & 0x7fffffff) >= f32_bits(eps);
    return far | ((f32_bits(x) << 1 == 0) & (f32_bits(stored) << 1 != 0));
}

INLINE uint32_t refused_double(double x, double stored, double eps)
{
    uint64_t far = (f64_bits(x - stored) & 0x7fffffffffffffff) >= f64_bits(eps);
    return (uint32_t)(far | ((f64_bits(x) << 1 == 0) & (f64_bits(stored) << 1 != 0)));
}

/* The bodies for one work type T. LIMIT: integers up to it are exact when ROUND, 1.5 times a power of two, is added.
 * What is not finite counts as 0 from then on. */
#define BODIES(T, name, ROUND, LIMIT, MOST)                                                                            \
    INLINE T magnitude_##name(T v) { return v < 0 ? -v : v; }                                                          \
    INLINE void find_zeros_##name##_body(const T *x, size_t n, uint8_t *zeros)                                         \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            zeros[i] = x[i] == 0;                                                                                      \
    }                                                                                                                  \
    INLINE size_t survey_##name##_body(const T *x, size_t n, size_t *zeros)                                            \
    {                                                                                                                  \
        size_t strange = 0, none = 0;                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            strange += magnitude_##name(x[i]) <= (T)MOST ? 0u : 1u;                                                    \
            none += x[i] == 0 ? 1u : 0u;                                                                               \
        }                                                                                                              \
        *zeros = none;                                                                                                 \
        return strange;                                                                                                \
    }                                                                                                                  \
    INLINE void pick_##name##_body(const T *from, size_t spacing, size_t n, T *out)                                    \
    {                                                                                                                  \
        if (spacing == 1)                                                                                              \
            memcpy(out, from, n * sizeof *out);                                                                        \
        else if (spacing == 2)                                                                                         \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = from[i * 2];                                                                                  \
        else                                                                                                           \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = from[i * spacing];                                                                            \
    }                                                                                                                  \
    INLINE void mean_##name##_body(const T *a, const T *b, size_t n, T *out)                                           \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            out[i] = (a[i] + b[i]) * (T)0.5;                                                                           \
    }                                                                                                                  \
    INLINE void extend_##name##_body(const T *a, const T *b, size_t n, T *out)                                         \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            out[i] = a[i] + (a[i] - b[i]);                                                                             \
    }                                                                                                                  \
    INLINE void weave_##name##_body(const T *even, const T *odd, size_t n, T *out)                                     \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            out[2 * i] = even[i];                                                                                      \
            out[2 * i + 1] = odd[i];                                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void classify_##name##_part(const interp_row *row, size_t from, size_t n, T inverse, uint8_t *classes)      \
    {                                                                                                                  \
        T a[INTERP_SEGMENT];                                                                                           \
        const T *l = (const T *)row->left + from, *r = (const T *)row->right + from, *m = (const T *)row->mean + from; \
        for (size_t i = 0; i < n; i++)                                                                                 \
            a[i] = magnitude_##name(r[i] - l[i]);                                                                      \
        for (unsigned k = 0; k < row->pairs; k++) {                                                                    \
            const T *u = (const T *)row->taps[k].at[0] + from, *v = (const T *)row->taps[k].at[1] + from;              \
            if (k == 0)                                                                                                \
                for (size_t i = 0; i < n; i++)                                                                         \
                    a[i] = a[i] + magnitude_##name((u[i] + v[i]) * (T)0.5 - m[i]);                                     \
            else                                                                                                       \
                for (size_t i = 0; i < n; i++)                                                                         \
                    a[i] = a[i] + magnitude_##name(u[i] - v[i]);                                                       \
        }                                                                                                              \
        for (size_t i = 0; i < n; i++)                                                                                 \
            classes[i] = class_of((float)(a[i] * inverse));                                                            \
    }                                                                                                                  \
    INLINE void classify_##name##_body(const interp_row *row, size_t n, double inverse, uint8_t *classes)              \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i += INTERP_SEGMENT)                                                                 \
            classify_##name##_part(row, i, n - i < INTERP_SEGMENT ? n - i : INTERP_SEGMENT, (T)inverse, classes + i);  \
    }                                                                                                                  \
    typedef T vector_##name __attribute__((vector_size(VECTOR)));                                                      \
    INLINE void load_vector_##name(vector_##name *v, const uint8_t *at, size_t i)                                      \
    {                                                                                                                  \
        memcpy(v, (const T *)at + i, sizeof *v);                                                                       \
    }                                                                                                                  \
    INLINE void predict_##name##_body(const interp_row *row, size_t from, size_t n, T *p)                              \
    {                                                                                                                  \
        for (size_t i = from; i < from + n; i += VECTOR / sizeof(T)) {                                                 \
            vector_##name sum, m, u, v, x, y;                                                                          \
            load_vector_##name(&m, row->mean, i);                                                                      \
            sum = m;                                                                                                   \
            unsigned k = 0;                                                                                            \
            for (; k < row->count && row->taps[k].kind == TAP_PAIR; k++) {                                             \
                const interp_tap *t = row->taps + k;                                                                   \
                load_vector_##name(&u, t->at[0], i);                                                                   \
                load_vector_##name(&v, t->at[1], i);                                                                   \
                sum = sum + t->weight_##name * ((u + v) * (T)0.5 - m);                                                 \
            }                                                                                                          \
            for (; k < row->count && row->taps[k].kind == TAP_QUAD; k++) {                                             \
                const interp_tap *t = row->taps + k;                                                                   \
                load_vector_##name(&u, t->at[0], i);                                                                   \
                load_vector_##name(&v, t->at[1], i);                                                                   \
                load_vector_##name(&x, t->at[2], i);                                                                   \
                load_vector_##name(&y, t->at[3], i);                                                                   \
                sum = sum + t->weight_##name * (((u + v) + (x + y)) * (T)0.25 - m);                                    \
            }                                                                                                          \
            for (; k < row->count; k++) {                                                                              \
                const interp_tap *t = row->taps + k;                                                                   \
                load_vector_##name(&u, t->at[0], i);                                                                   \
                load_vector_##name(&v, t->at[1], i);                                                                   \
                sum = sum + t->weight_##name * (u - v);                                                                \
            }                                                                                                          \
            memcpy(p + (i - from), &sum, sizeof sum);                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void reconstruct_##name##_body(const T *p, const int32_t *q, size_t n, double step, T *v)                   \
    {                                                                                                                  \
        const T s = (T)step;                                                                                           \
        for (size_t i = 0; i < n; i++) {                                                                               \
            v[i] = finite_##name(p[i] + (T)q[i] * s);                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE uint32_t quantize_##name##_of(uint32_t dtype, const T *x, const T *p, size_t n, const double *steps,        \
                                         int32_t *q, T *v)                                                             \
    {                                                                                                                  \
        const T s = (T)steps[0], inverse = (T)steps[1], eps = (T)steps[2];                                             \
        uint32_t worst = 0;                                                                                            \
        for (size_t i = 0; i < n; i++) {                                                                               \
            T t = (x[i] - p[i]) * inverse;                                                                             \
            t = t < (T)LIMIT ? t : (T)LIMIT; /* NaN too */                                                             \
            t = t > -(T)LIMIT ? t : -(T)LIMIT;                                                                         \
            t = (t + (T)ROUND) - (T)ROUND;                                                                             \
            T y = finite_##name(p[i] + t * s), stored = stored_##name(dtype, y);                                       \
            q[i] = (int32_t)t;                                                                                         \
            v[i] = y;                                                                                                  \
            worst |= refused_##name(x[i], stored, eps);                                                                \
        }                                                                                                              \
        return worst;                                                                                                  \
    }                                                                                                                  \
    INLINE uint32_t quantize_##name##_body(uint32_t dtype, const T *x, const T *p, size_t n, const double *steps,      \
                                           int32_t *q, T *v)                                                           \
    {                                                                                                                  \
        switch (dtype) {                                                                                               \
        case DT_F64: return quantize_##name##_of(sizeof(T) == 8 ? DT_F64 : DT_F32, x, p, n, steps, q, v);              \
        case DT_F32: return quantize_##name##_of(DT_F32, x, p, n, steps, q, v);                                        \
        case DT_BF16: return quantize_##name##_of(DT_BF16, x, p, n, steps, q, v);                                      \
        default: return quantize_##name##_of(DT_F16, x, p, n, steps, q, v);                                            \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void terms_##name##_body(const interp_row *row, unsigned tap, size_t from, size_t n, double *out)           \
    {                                                                                                                  \
        const interp_tap *t = row->taps + tap;                                                                         \
        const T *m = (const T *)row->mean + from, *u = (const T *)t->at[0] + from, *v = (const T *)t->at[1] + from;    \
        for (size_t i = 0; i < n; i++)                                                                                 \
            if (t->kind == TAP_PAIR)                                                                                   \
                out[i] = (double)((u[i] + v[i]) * (T)0.5 - m[i]);                                                      \
            else if (t->kind == TAP_CAUSAL)                                                                            \
                out[i] = (double)(u[i] - v[i]);                                                                        \
            else                                                                                                       \
                out[i] =                                                                                               \
                    (double)(((u[i] + v[i]) + (((const T *)t->at[2])[from + i] + ((const T *)t->at[3])[from + i])) *   \
                                 (T)0.25 -                                                                             \
                             m[i]);                                                                                    \
    }                                                                                                                  \
    static void pad_##name(uint8_t *values, size_t n)                                                                  \
    {                                                                                                                  \
        T *row = (T *)(void *)values, *end = row + n;                                                                  \
        row[-1] = row[0] + (row[0] - row[n > 1]);                                                                      \
        end[0] = end[-1] + (end[-1] - (n > 1 ? end[-2] : end[-1]));                                                    \
        end[1] = end[0] + (end[0] - end[-1]);                                                                          \
    }                                                                                                                  \
    static double at_##name(const uint8_t *v, size_t i) { return (double)((const T *)(const void *)v)[i]; }            \
    static void put_##name(uint8_t *v, size_t i, double x) { ((T *)(void *)v)[i] = (T)x; }

BODIES(float, single, 12582912.0f, 4194303.0f, FLT_MAX)
BODIES(double, double, 6755399441055744.0, 1073741823.0, DBL_MAX)

/* One set of functions for a type and an instruction set. Pointers to bytes are to that type, aligned. */
#define SET(T, name, isa, target)                                                                                    \
    target static void load_##name##_##isa(uint32_t dtype, const uint8_t *values, size_t n, uint8_t *x)              \
    {                                                                                                                \
        load_##name##_body(dtype, values, n, (T *)(void *)x);                                                        \
    }                                                                                                                \
    target static void store_##name##_##isa(uint32_t dtype, const uint8_t *v, size_t n, uint8_t *values)             \
    {                                                                                                                \
        store_##name##_body(dtype, (const T *)(const void *)v, n, values);                                           \
    }                                                                                                                \
    target static void find_zeros_##name##_##isa(const uint8_t *x, size_t n, uint8_t *zeros)                         \
    {                                                                                                                \
        find_zeros_##name##_body((const T *)(const void *)x, n, zeros);                                              \
    }                                                                                                                \
    target static size_t survey_##name##_##isa(const uint8_t *x, size_t n, size_t *zeros)                            \
    {                                                                                                                \
        return survey_##name##_body((const T *)(const void *)x, n, zeros);                                           \
    }                                                                                                                \
    target static void pick_##name##_##isa(const uint8_t *from, size_t spacing, size_t n, uint8_t *out)              \
    {                                                                                                                \
        pick_##name##_body((const T *)(const void *)from, spacing, n, (T *)(void *)out);                             \
    }                                                                                                                \
    target static void mean_##name##_##isa(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out)               \
    {                                                                                                                \
        mean_##name##_body((const T *)(const void *)a, (const T *)(const void *)b, n, (T *)(void *)out);             \
    }                                                                                                                \
    target static void extend_##name##_##isa(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out)             \
    {                                                                                                                \
        extend_##name##_body((const T *)(const void *)a, (const T *)(const void *)b, n, (T *)(void *)out);           \
    }                                                                                                                \
    target static void weave_##name##_##isa(const uint8_t *even, const uint8_t *odd, size_t n, uint8_t *out)         \
    {                                                                                                                \
        weave_##name##_body((const T *)(const void *)even, (const T *)(const void *)odd, n, (T *)(void *)out);       \
    }                                                                                                                \
    target static void classify_##name##_##isa(const interp_row *row, size_t n, double inverse, uint8_t *classes)    \
    {                                                                                                                \
        classify_##name##_body(row, n, inverse, classes);                                                            \
    }                                                                                                                \
    target static void predict_##name##_##isa(const interp_row *row, size_t from, size_t n, uint8_t *p)              \
    {                                                                                                                \
        predict_##name##_body(row, from, n, (T *)(void *)p);                                                         \
    }                                                                                                                \
    target static void reconstruct_##name##_##isa(const uint8_t *p, const int32_t *q, size_t n, double step,         \
                                                  uint8_t *v)                                                        \
    {                                                                                                                \
        reconstruct_##name##_body((const T *)(const void *)p, q, n, step, (T *)(void *)v);                           \
    }                                                                                                                \
    target static uint32_t quantize_##name##_##isa(uint32_t dtype, const uint8_t *x, const uint8_t *p, size_t n,     \
                                                   const double steps[3], int32_t *q, uint8_t *v)                    \
    {                                                                                                                \
        return quantize_##name##_body(dtype, (const T *)(const void *)x, (const T *)(const void *)p, n, steps, q,    \
                                      (T *)(void *)v);                                                               \
    }                                                                                                                \
    target static void terms_##name##_##isa(const interp_row *row, unsigned tap, size_t from, size_t n, double *out) \
    {                                                                                                                \
        terms_##name##_body(row, tap, from, n, out);                                                                 \
    }

SET(float, single, scalar, )
SET(float, single, avx2, TARGET_AVX2)
SET(float, single, avx512, TARGET_AVX512)
SET(double, double, scalar, )
SET(double, double, avx2, TARGET_AVX2)
SET(double, double, avx512, TARGET_AVX512)

#define ENTRY(T, name, isa)                     \
    {.bytes = sizeof(T),                        \
     .pad = pad_##name,                         \
     .at = at_##name,                           \
     .put = put_##name,                         \
     .load = load_##name##_##isa,               \
     .store = store_##name##_##isa,             \
     .find_zeros = find_zeros_##name##_##isa,   \
     .survey = survey_##name##_##isa,           \
     .pick = pick_##name##_##isa,               \
     .mean = mean_##name##_##isa,               \
     .extend = extend_##name##_##isa,           \
     .weave = weave_##name##_##isa,             \
     .classify = classify_##name##_##isa,       \
     .predict = predict_##name##_##isa,         \
     .reconstruct = reconstruct_##name##_##isa, \
     .quantize = quantize_##name##_##isa,       \
     .terms = terms_##name##_##isa}

const interp_kernels *interp_kernels_for(bool is_double, uint32_t isa)
{
    static const interp_kernels sets[2][3] = {
        {ENTRY(float, single, scalar), ENTRY(float, single, avx2), ENTRY(float, single, avx512)},
        {ENTRY(double, double, scalar), ENTRY(double, double, avx2), ENTRY(double, double, avx512)}};
    isa = isa_resolve(isa);
    return &sets[is_double][isa >= SZD_ISA_AVX512 ? 2 : isa == SZD_ISA_AVX2];
}
