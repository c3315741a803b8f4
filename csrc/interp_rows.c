/* The interpolation predictor's loops over rows, for float and double and each instruction set (FORMAT.md, section
 * 11). Every operation is rounded by itself, in the order that stands here. */
#include "interp.h"
#include "interp_patterns.h"

#define HALF_OCTAVES 22 /* of a float's pattern: above are the exponent and one bit of the mantissa */
#define VECTOR 64       /* bytes; loops may read and compute beyond a row, in memory that is there */
#define LEAST_ACTIVITY ((127 << 1) - 32)
#define LANES(T) (VECTOR / sizeof(T))

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

/* The bodies for one work type T. What is not finite counts as 0 from then on. */
#define BODIES(T, name, INTEGER, MAGNITUDE, INFINITE, ROUND, BIAS)                                                     \
    INLINE void find_zeros_##name##_body(const T *x, size_t n, uint8_t *zeros)                                         \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            zeros[i] = (uint8_t)is_zero_##name(x[i]);                                                                  \
    }                                                                                                                  \
    INLINE size_t survey_##name##_body(const T *x, size_t n, size_t *zeros)                                            \
    {                                                                                                                  \
        size_t strange = 0;                                                                                            \
        *zeros = 0;                                                                                                    \
        for (size_t done = 0; done < n; done += INTERP_SEGMENT) {                                                      \
            uint32_t odd = 0, none = 0;                                                                                \
            const T *part = x + done;                                                                                  \
            size_t now = n - done < INTERP_SEGMENT ? n - done : INTERP_SEGMENT;                                        \
            for (size_t i = 0; i < now; i++) {                                                                         \
                odd += is_strange_##name(part[i]);                                                                     \
                none += is_zero_##name(part[i]);                                                                       \
            }                                                                                                          \
            strange += odd;                                                                                            \
            *zeros += none;                                                                                            \
        }                                                                                                              \
        return strange;                                                                                                \
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
    INLINE void unweave_##name##_body(const T *from, size_t n, T *even, T *odd)                                        \
    {                                                                                                                  \
        T part[2 * INTERP_SEGMENT];                                                                                    \
        for (size_t done = 0; done < n; done += 2 * INTERP_SEGMENT) {                                                  \
            size_t now = n - done < 2 * INTERP_SEGMENT ? n - done : 2 * INTERP_SEGMENT;                                \
            memcpy(part, from + done, now * sizeof *part);                                                             \
            for (size_t i = 0; i < now / 2; i++)                                                                       \
                even[done / 2 + i] = part[2 * i];                                                                      \
            for (size_t i = 0; i < now / 2; i++)                                                                       \
                odd[done / 2 + i] = part[2 * i + 1];                                                                   \
            if (now & 1)                                                                                               \
                even[done / 2 + now / 2] = part[now - 1];                                                              \
        }                                                                                                              \
    }                                                                                                                  \
    typedef T vector_##name __attribute__((vector_size(VECTOR)));                                                      \
    typedef INTEGER integers_##name __attribute__((vector_size(VECTOR)));                                              \
    typedef u##INTEGER unsigned_##name __attribute__((vector_size(VECTOR)));                                           \
    typedef int32_t numbers_##name __attribute__((vector_size(4 * LANES(T))));                                         \
    INLINE void load_vector_##name(vector_##name *v, const uint8_t *at, size_t i)                                      \
    {                                                                                                                  \
        memcpy(v, (const T *)at + i, sizeof *v);                                                                       \
    }                                                                                                                  \
    INLINE void put_classes_##name(const vector_##name *activity, uint8_t *classes)                                    \
    {                                                                                                                  \
        typedef float floats __attribute__((vector_size(4 * LANES(T))));                                               \
        typedef uint8_t bytes __attribute__((vector_size(LANES(T))));                                                  \
        numbers_##name half = (((numbers_##name) __builtin_convertvector(*activity, floats) & 0x7fffffff) >>           \
                               HALF_OCTAVES) -                                                                         \
                              LEAST_ACTIVITY,                                                                          \
                       above = half - (INTERP_CLASSES - 1);                                                            \
        half = (above & above >> 31) + (INTERP_CLASSES - 1);                                                           \
        bytes b = __builtin_convertvector(half & ~(half >> 31), bytes);                                                \
        memcpy(classes, &b, sizeof b);                                                                                 \
    }                                                                                                                  \
    INLINE void mean_##name##_body(const T *a, const T *b, size_t n, T *out)                                           \
    {                                                                                                                  \
        vector_##name u, v;                                                                                            \
        for (size_t i = 0; i < n; i += LANES(T)) {                                                                     \
            memcpy(&u, a + i, sizeof u);                                                                               \
            memcpy(&v, b + i, sizeof v);                                                                               \
            u = (u + v) * (T)0.5;                                                                                      \
            memcpy(out + i, &u, sizeof u);                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void add_magnitude_##name(vector_##name *sum, const vector_##name *v)                                       \
    {                                                                                                                  \
        *sum = *sum + (vector_##name)((integers_##name) * v & MAGNITUDE);                                              \
    }                                                                                                                  \
    INLINE void classify_##name##_body(const interp_row *row, size_t n, double inverse_step, uint8_t *classes)         \
    {                                                                                                                  \
        const T inverse = (T)inverse_step;                                                                             \
        const interp_tap *end = row->at_edges->taps + row->at_edges->pairs;                                            \
        for (size_t i = 0; i < n; i += LANES(T)) {                                                                     \
            vector_##name u, v, m, d, sum = {0};                                                                       \
            load_vector_##name(&u, row->side[1], i);                                                                   \
            load_vector_##name(&v, row->side[2], i);                                                                   \
            d = v - u;                                                                                                 \
            add_magnitude_##name(&sum, &d);                                                                            \
            load_vector_##name(&u, row->side[0], i);                                                                   \
            load_vector_##name(&v, row->side[3], i);                                                                   \
            load_vector_##name(&m, row->mean, i);                                                                      \
            d = (u + v) * (T)0.5 - m;                                                                                  \
            add_magnitude_##name(&sum, &d);                                                                            \
            for (const interp_tap *t = row->at_edges->taps; t < end; t++) {                                            \
                load_vector_##name(&u, row->mean + t->at[0], i);                                                       \
                load_vector_##name(&v, row->mean + t->at[1], i);                                                       \
                d = u - v;                                                                                             \
                add_magnitude_##name(&sum, &d);                                                                        \
            }                                                                                                          \
            sum = sum * inverse;                                                                                       \
            put_classes_##name(&sum, classes + i);                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void predict_##name##_body(const interp_row *row, size_t from, size_t n, T *p)                              \
    {                                                                                                                  \
        const interp_tap *pairs_end = row->at_edges->taps + row->at_edges->pairs,                                      \
                         *quads_end = pairs_end + row->at_edges->quads;                                                \
        for (size_t i = from; i < from + n; i += LANES(T)) {                                                           \
            const interp_tap *t = row->at_edges->taps;                                                                 \
            vector_##name sum, m, u, v, x, y;                                                                          \
            load_vector_##name(&m, row->mean, i);                                                                      \
            sum = m;                                                                                                   \
            if (row->curve) {                                                                                          \
                load_vector_##name(&u, row->side[0], i);                                                               \
                load_vector_##name(&v, row->side[3], i);                                                               \
                sum = sum + row->curve_##name * ((u + v) * (T)0.5 - m);                                                \
            }                                                                                                          \
            for (; t < pairs_end; t++) {                                                                               \
                load_vector_##name(&u, row->mean + t->at[0], i);                                                       \
                load_vector_##name(&v, row->mean + t->at[1], i);                                                       \
                sum = sum + t->weight_##name * ((u + v) * (T)0.5 - m);                                                 \
            }                                                                                                          \
            for (; t < quads_end; t++) {                                                                               \
                load_vector_##name(&u, row->mean + t->at[0], i);                                                       \
                load_vector_##name(&v, row->mean + t->at[1], i);                                                       \
                load_vector_##name(&x, row->mean + t->at[2], i);                                                       \
                load_vector_##name(&y, row->mean + t->at[3], i);                                                       \
                sum = sum + t->weight_##name * (((u + v) + (x + y)) * (T)0.25 - m);                                    \
            }                                                                                                          \
            for (; t < row->at_edges->taps + row->at_edges->count; t++) {                                              \
                load_vector_##name(&u, row->coming + t->at[0], i);                                                     \
                load_vector_##name(&v, row->mean + t->at[1], i);                                                       \
                sum = sum + t->weight_##name * (u - v);                                                                \
            }                                                                                                          \
            memcpy(p + (i - from), &sum, sizeof sum);                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void snap_##name##_body(T *p, size_t n, double unit)                                                        \
    {                                                                                                                  \
        const T s = (T)unit, inverse = 1 / s;                                                                          \
        for (size_t i = 0; i < n; i += LANES(T))                                                                       \
            for (size_t j = i; j < i + LANES(T); j++)                                                                  \
                p[j] = whole_##name(p[j] * inverse) * s;                                                               \
    }                                                                                                                  \
    INLINE void reconstruct_##name##_body(const T *p, const int32_t *q, size_t n, double step, T *v)                   \
    {                                                                                                                  \
        const T s = (T)step;                                                                                           \
        for (size_t i = 0; i < n; i++)                                                                                 \
            v[i] = finite_##name(p[i] + (T)q[i] * s);                                                                  \
    }                                                                                                                  \
    /* All bits where *v, which is not below -MAGNITUDE, is below 0. (Comparisons of vectors longer than the           \
     * processor's base has are compiled into one for each element.) */                                                \
    INLINE void negative_##name(const integers_##name *v, integers_##name *mask)                                       \
    {                                                                                                                  \
        *mask = -(integers_##name)((unsigned_##name) * v >> (8 * sizeof(T) - 1));                                      \
    }                                                                                                                  \
    INLINE void quantize_##name##_vector(const interp_quantizer *z, const T *x_at, const T *p_at, int32_t *q_at,       \
                                         T *v_at, integers_##name *worst)                                              \
    {                                                                                                                  \
        const T s = (T)z->step, inverse = (T)z->inverse;                                                               \
        vector_##name x, p, y, eps = {0};                                                                              \
        integers_##name x_is_zero, y_is_zero, near, magnitude, finite;                                                 \
        memcpy(&x, x_at, sizeof x);                                                                                    \
        memcpy(&p, p_at, sizeof p);                                                                                    \
        eps = eps + (T)z->eps;                                                                                         \
        magnitude = ((integers_##name)x & MAGNITUDE) - 1;                                                              \
        negative_##name(&magnitude, &x_is_zero);                                                                       \
        p = (vector_##name)((integers_##name)p & ~(x_is_zero & -(INTEGER)z->zeros));                                   \
        numbers_##name q =                                                                                             \
            __builtin_convertvector((integers_##name)((x - p) * inverse + (T)ROUND) - BIAS, numbers_##name);           \
        y = p + __builtin_convertvector(q, vector_##name) * s;                                                         \
        magnitude = ((integers_##name)y & MAGNITUDE) - INFINITE;                                                       \
        negative_##name(&magnitude, &finite);                                                                          \
        y = (vector_##name)((integers_##name)y & finite);                                                              \
        magnitude = ((integers_##name)y & MAGNITUDE) - 1;                                                              \
        negative_##name(&magnitude, &y_is_zero);                                                                       \
        magnitude = ((integers_##name)(x - y) & MAGNITUDE) - (integers_##name)eps;                                     \
        negative_##name(&magnitude, &near);                                                                            \
        *worst = *worst | ~near | (x_is_zero & ~y_is_zero);                                                            \
        memcpy(q_at, &q, sizeof q);                                                                                    \
        memcpy(v_at, &y, sizeof y);                                                                                    \
    }                                                                                                                  \
    INLINE uint32_t quantize_##name##_plain(const interp_quantizer *z, const T *x, const T *p, size_t n, int32_t *q,   \
                                            T *v)                                                                      \
    {                                                                                                                  \
        integers_##name worst = {0};                                                                                   \
        INTEGER any = 0;                                                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + LANES(T) <= n; i += LANES(T))                                                                       \
            quantize_##name##_vector(z, x + i, p + i, q + i, v + i, &worst);                                           \
        if (i < n) {                                                                                                   \
            T ends[3][LANES(T)] = {{0}};                                                                               \
            int32_t end[LANES(T)];                                                                                     \
            memcpy(ends[0], x + i, (n - i) * sizeof(T));                                                               \
            memcpy(ends[1], p + i, (n - i) * sizeof(T));                                                               \
            quantize_##name##_vector(z, ends[0], ends[1], end, ends[2], &worst);                                       \
            memcpy(q + i, end, (n - i) * sizeof *q);                                                                   \
            memcpy(v + i, ends[2], (n - i) * sizeof(T));                                                               \
        }                                                                                                              \
        for (i = 0; i < LANES(T); i++)                                                                                 \
            any |= worst[i];                                                                                           \
        return any != 0;                                                                                               \
    }                                                                                                                  \
    INLINE uint32_t quantize_##name##_stored(uint32_t dtype, const interp_quantizer *z, const T *x, const T *p,        \
                                             size_t n, int32_t *q, T *v)                                               \
    {                                                                                                                  \
        const T s = (T)z->step, inverse = (T)z->inverse, eps = (T)z->eps;                                              \
        uint32_t worst = 0;                                                                                            \
        for (size_t i = 0; i < n; i++) {                                                                               \
            T kept = z->zeros && is_zero_##name(x[i]) ? (T)0 : p[i];                                                   \
            q[i] = nearest_##name((x[i] - kept) * inverse);                                                            \
            T y = finite_##name(kept + (T)q[i] * s);                                                                   \
            v[i] = y;                                                                                                  \
            worst |= refused_##name(x[i], stored_##name(dtype, y), eps);                                               \
        }                                                                                                              \
        return worst;                                                                                                  \
    }                                                                                                                  \
    INLINE uint32_t quantize_##name##_body(const interp_quantizer *z, const T *x, const T *p, size_t n, int32_t *q,    \
                                           T *v, uint8_t *classes)                                                     \
    {                                                                                                                  \
        for (size_t i = 0; z->zeros && i < n; i++)                                                                     \
            classes[i] = is_zero_##name(x[i]) ? INTERP_SKIPPED : classes[i];                                           \
        switch (z->dtype) {                                                                                            \
        case DT_BF16: return quantize_##name##_stored(DT_BF16, z, x, p, n, q, v);                                      \
        case DT_F16: return quantize_##name##_stored(DT_F16, z, x, p, n, q, v);                                        \
        case DT_F32:                                                                                                   \
            if (sizeof(T) == 8)                                                                                        \
                return quantize_##name##_stored(DT_F32, z, x, p, n, q, v);                                             \
        }                                                                                                              \
        return quantize_##name##_plain(z, x, p, n, q, v);                                                              \
    }                                                                                                                  \
    INLINE void put_zeros_##name##_body(const uint8_t *zeros, size_t n, T *v)                                          \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            v[i] = zeros[i] ? (T)0 : v[i];                                                                             \
    }                                                                                                                  \
    INLINE void terms_##name##_body(const interp_row *row, const interp_tap *t, size_t from, size_t n, double inverse, \
                                    double *out)                                                                       \
    {                                                                                                                  \
        const T *m = (const T *)row->mean + from;                                                                      \
        const T *u = (const T *)(t ? row->mean + t->at[0] : row->side[0]) + from;                                      \
        const T *v = (const T *)(t ? row->mean + t->at[1] : row->side[3]) + from;                                      \
        if (!t || t->kind == TAP_PAIR) {                                                                               \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = (double)((u[i] + v[i]) * (T)0.5 - m[i]) * inverse;                                            \
        } else if (t->kind == TAP_CAUSAL) {                                                                            \
            u = (const T *)(row->coming + t->at[0]) + from;                                                            \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = (double)(u[i] - v[i]) * inverse;                                                              \
        } else {                                                                                                       \
            const T *x = (const T *)(row->mean + t->at[2]) + from, *y = (const T *)(row->mean + t->at[3]) + from;      \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = (double)(((u[i] + v[i]) + (x[i] + y[i])) * (T)0.25 - m[i]) * inverse;                         \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void target_##name##_body(const interp_row *row, const T *x, size_t from, size_t n, double inverse,         \
                                     double *out)                                                                      \
    {                                                                                                                  \
        const T *m = (const T *)row->mean + from;                                                                      \
        for (size_t i = 0; i < n; i++)                                                                                 \
            out[i] = (double)(x[i] - m[i]) * inverse;                                                                  \
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

BODIES(float, single, int32_t, 0x7fffffff, 0x7f800000, 0x1.8p23, 0x4b400000)
BODIES(double, double, int64_t, 0x7fffffffffffffff, 0x7ff0000000000000, 0x1.8p52, 0)

/* Sums of products with `a`, of four others at a time. In eight lanes, so that a vector of 8 sums in the same order as
 * one of 2. */
INLINE void dots_body(const double *a, const double *const *b, unsigned count, size_t n, double *out)
{
    for (unsigned from = 0; from < count; from += 4) {
        const double *of[4];
        vector_double x, y, lane[4] = {{0}, {0}, {0}, {0}};
        for (unsigned k = 0; k < 4; k++)
            of[k] = b[from + k < count ? from + k : from];
        for (size_t i = 0; i < n; i += LANES(double)) {
            memcpy(&x, a + i, sizeof x);
#pragma GCC unroll 4
            for (unsigned k = 0; k < 4; k++) {
                memcpy(&y, of[k] + i, sizeof y);
                lane[k] += x * y;
            }
        }
        for (unsigned k = 0; k < 4 && from + k < count; k++)
            out[from + k] = ((lane[k][0] + lane[k][1]) + (lane[k][2] + lane[k][3])) +
                            ((lane[k][4] + lane[k][5]) + (lane[k][6] + lane[k][7]));
    }
}
#define DOTS(isa, target)                                                                                         \
    target static void dots_##isa(const double *a, const double *const *b, unsigned count, size_t n, double *out) \
    {                                                                                                             \
        dots_body(a, b, count, n, out);                                                                           \
    }
DOTS(scalar, )
DOTS(avx2, TARGET_AVX2)
DOTS(avx512, TARGET_AVX512)

/* One set of functions for a type and an instruction set. Pointers to bytes are to that type, aligned. */
#define SET(T, name, isa, target_of)                                                                                   \
    target_of static void load_##name##_##isa(uint32_t dtype, const uint8_t *values, size_t n, uint8_t *x)             \
    {                                                                                                                  \
        load_##name##_body(dtype, values, n, (T *)(void *)x);                                                          \
    }                                                                                                                  \
    target_of static void store_##name##_##isa(uint32_t dtype, const uint8_t *v, size_t n, uint8_t *values)            \
    {                                                                                                                  \
        store_##name##_body(dtype, (const T *)(const void *)v, n, values);                                             \
    }                                                                                                                  \
    target_of static void find_zeros_##name##_##isa(const uint8_t *x, size_t n, uint8_t *zeros)                        \
    {                                                                                                                  \
        find_zeros_##name##_body((const T *)(const void *)x, n, zeros);                                                \
    }                                                                                                                  \
    target_of static size_t survey_##name##_##isa(const uint8_t *x, size_t n, size_t *zeros)                           \
    {                                                                                                                  \
        return survey_##name##_body((const T *)(const void *)x, n, zeros);                                             \
    }                                                                                                                  \
    target_of static void mean_##name##_##isa(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out)              \
    {                                                                                                                  \
        mean_##name##_body((const T *)(const void *)a, (const T *)(const void *)b, n, (T *)(void *)out);               \
    }                                                                                                                  \
    target_of static void extend_##name##_##isa(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out)            \
    {                                                                                                                  \
        extend_##name##_body((const T *)(const void *)a, (const T *)(const void *)b, n, (T *)(void *)out);             \
    }                                                                                                                  \
    target_of static void weave_##name##_##isa(const uint8_t *even, const uint8_t *odd, size_t n, uint8_t *out)        \
    {                                                                                                                  \
        weave_##name##_body((const T *)(const void *)even, (const T *)(const void *)odd, n, (T *)(void *)out);         \
    }                                                                                                                  \
    target_of static void unweave_##name##_##isa(const uint8_t *from, size_t n, uint8_t *even, uint8_t *odd)           \
    {                                                                                                                  \
        unweave_##name##_body((const T *)(const void *)from, n, (T *)(void *)even, (T *)(void *)odd);                  \
    }                                                                                                                  \
    target_of static void classify_##name##_##isa(const interp_row *row, size_t n, double inverse, uint8_t *classes)   \
    {                                                                                                                  \
        classify_##name##_body(row, n, inverse, classes);                                                              \
    }                                                                                                                  \
    target_of static void predict_##name##_##isa(const interp_row *row, size_t from, size_t n, uint8_t *p)             \
    {                                                                                                                  \
        predict_##name##_body(row, from, n, (T *)(void *)p);                                                           \
    }                                                                                                                  \
    target_of static void snap_##name##_##isa(uint8_t *p, size_t n, double unit)                                       \
    {                                                                                                                  \
        snap_##name##_body((T *)(void *)p, n, unit);                                                                   \
    }                                                                                                                  \
    target_of static void reconstruct_##name##_##isa(const uint8_t *p, const int32_t *q, size_t n, double step,        \
                                                     uint8_t *v)                                                       \
    {                                                                                                                  \
        reconstruct_##name##_body((const T *)(const void *)p, q, n, step, (T *)(void *)v);                             \
    }                                                                                                                  \
    target_of static uint32_t quantize_##name##_##isa(const interp_quantizer *z, const uint8_t *x, const uint8_t *p,   \
                                                      size_t n, int32_t *q, uint8_t *v, uint8_t *classes)              \
    {                                                                                                                  \
        return quantize_##name##_body(z, (const T *)(const void *)x, (const T *)(const void *)p, n, q, (T *)(void *)v, \
                                      classes);                                                                        \
    }                                                                                                                  \
    target_of static void put_zeros_##name##_##isa(const uint8_t *zeros, size_t n, uint8_t *v)                         \
    {                                                                                                                  \
        put_zeros_##name##_body(zeros, n, (T *)(void *)v);                                                             \
    }                                                                                                                  \
    target_of static void terms_##name##_##isa(const interp_row *row, const interp_tap *tap, size_t from, size_t n,    \
                                               double inverse, double *out)                                            \
    {                                                                                                                  \
        terms_##name##_body(row, tap, from, n, inverse, out);                                                          \
    }                                                                                                                  \
    target_of static void target_##name##_##isa(const interp_row *row, const uint8_t *x, size_t from, size_t n,        \
                                                double inverse, double *out)                                           \
    {                                                                                                                  \
        target_##name##_body(row, (const T *)(const void *)x, from, n, inverse, out);                                  \
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
