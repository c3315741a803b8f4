/* Values of the float dtypes as float32, and float32 rounded to the dtypes. Branch-free bodies, one loop a dtype: they
 * vectorise. */
#ifndef SZD_CONVERT_H
#define SZD_CONVERT_H
#include "internal.h"

INLINE void load_floats(uint32_t dtype, const uint8_t *p, size_t n, float *x)
{
    uint16_t half;
    if (dtype == DT_F32)
        memcpy(x, p, 4 * n);
    else if (dtype == DT_BF16)
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, p + 2 * i, 2);
            x[i] = bf16_to_f32(half);
        }
    else
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, p + 2 * i, 2);
            x[i] = f16_to_f32(half);
        }
}

INLINE void store_floats(uint32_t dtype, const float *x, size_t n, uint8_t *p)
{
    uint16_t half;
    if (dtype == DT_F32)
        memcpy(p, x, 4 * n);
    else if (dtype == DT_BF16)
        for (size_t i = 0; i < n; i++) {
            half = f32_to_bf16(x[i]);
            memcpy(p + 2 * i, &half, 2);
        }
    else
        for (size_t i = 0; i < n; i++) {
            half = f32_to_f16(x[i]);
            memcpy(p + 2 * i, &half, 2);
        }
}

INLINE float as_stored(uint32_t dtype, float x)
{
    return dtype == DT_F32 ? x : dtype == DT_BF16 ? bf16_to_f32(f32_to_bf16(x)) : f16_to_f32(f32_to_f16(x));
}
#endif
