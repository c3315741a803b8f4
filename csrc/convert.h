/* Values of the float dtypes as float32, and float32 rounded to the dtypes. Branch-free bodies, one loop a dtype: they
 * vectorise. */
#ifndef SZD_CONVERT_H
#define SZD_CONVERT_H
#include "internal.h"

INLINE float load_float(uint32_t dtype, const uint8_t *p, size_t i)
{
    float x;
    uint16_t half;
    if (dtype == DT_F32) {
        memcpy(&x, p + 4 * i, 4);
        return x;
    }
    memcpy(&half, p + 2 * i, 2);
    return dtype == DT_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
}

INLINE void store_float(uint32_t dtype, float x, uint8_t *p, size_t i)
{
    if (dtype == DT_F32) {
        memcpy(p + 4 * i, &x, 4);
        return;
    }
    uint16_t half = dtype == DT_BF16 ? f32_to_bf16(x) : f32_to_f16(x);
    memcpy(p + 2 * i, &half, 2);
}

INLINE void load_floats(uint32_t dtype, const uint8_t *p, size_t n, float *x)
{
    switch (dtype) { /* a loop a dtype, each without branches */
    case DT_F32: memcpy(x, p, 4 * n); break;
    case DT_BF16:
        for (size_t i = 0; i < n; i++)
            x[i] = load_float(DT_BF16, p, i);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            x[i] = load_float(DT_F16, p, i);
    }
}

/* Up to CHUNK values of any float dtype. */
INLINE void load_wide(uint32_t dtype, const uint8_t *p, size_t n, double *x)
{
    float single[CHUNK];
    if (dtype == DT_F64) {
        memcpy(x, p, 8 * n);
        return;
    }
    load_floats(dtype, p, n, single);
    for (size_t i = 0; i < n; i++)
        x[i] = single[i];
}

INLINE void store_floats(uint32_t dtype, const float *x, size_t n, uint8_t *p)
{
    switch (dtype) {
    case DT_F32: memcpy(p, x, 4 * n); break;
    case DT_BF16:
        for (size_t i = 0; i < n; i++)
            store_float(DT_BF16, x[i], p, i);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            store_float(DT_F16, x[i], p, i);
    }
}

INLINE float as_stored(uint32_t dtype, float x)
{
    return dtype == DT_F32 ? x : dtype == DT_BF16 ? bf16_to_f32(f32_to_bf16(x)) : f16_to_f32(f32_to_f16(x));
}
#endif
