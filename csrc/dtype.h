/* The stored dtypes, their classes, and the conversions of the two half-width floats (FORMAT.md, sections 2 and 6). */
#ifndef SZD_DTYPE_H
#define SZD_DTYPE_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { DT_F16 = 0, DT_BF16 = 1, DT_F32 = 2, DT_F64 = 3, DT_COMPLEX64 = 48, DT_COMPLEX128 = 49 };

typedef struct dtype_info {
    unsigned element_bytes; /* 0: not a dtype */
    unsigned per_value;
    bool is_float;
} dtype_info;

static inline dtype_info dtype_of(uint32_t code)
{
    dtype_info none = {0, 0, false};
    if (code <= DT_F64)
        return (dtype_info){code <= DT_BF16 ? 2 : code == DT_F32 ? 4 : 8, 1, true};
    if (code >= 16 && code <= 23)
        return (dtype_info){1u << (code & 3), 1, false};
    if (code == 24 || (code >= 32 && code <= 39))
        return (dtype_info){1, 1, false};
    if (code == DT_COMPLEX64 || code == DT_COMPLEX128)
        return (dtype_info){code == DT_COMPLEX64 ? 4 : 8, 2, true};
    return none;
}

static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline float bf16_to_f32(uint16_t h) { return f32_from_bits((uint32_t)h << 16); }

/* Round to nearest even; a NaN keeps a set quiet bit. Branch-free, so that loops over it vectorise. */
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16 | 0x40) : rounded);
}

/* All bits where a < b, both below 2^31. Loops over conditions that choose between floats' bits would not vectorise:
 * compilers move what only one side needs into a branch. */
static inline uint32_t mask_below(uint32_t a, uint32_t b) { return (uint32_t)((int32_t)(a - b) >> 31); }

/* Shift exponent and mantissa into float32's places and scale by 2^112: exact, denormals and all. */
static inline float f16_to_f32(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    uint32_t special = ~mask_below(magnitude, 0x0f800000) & 0x7f800000; /* infinity and NaN keep their mantissa */
    uint32_t u = f32_bits(f32_from_bits(magnitude) * 0x1p112f) | special;
    return f32_from_bits(u | (uint32_t)(h & 0x8000) << 16);
}

/* Round to nearest even. Below 2^-14 the sum with 0.5 makes the float adder do the rounding to a multiple of 2^-24;
 * above, the integer addition of half a unit carries from mantissa to exponent, and past 65504 to infinity. */
static inline uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), magnitude = u & 0x7fffffff;
    uint32_t tiny = f32_bits(f32_from_bits(magnitude) + 0.5f) - 0x3f000000;
    uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
    uint32_t is_tiny = mask_below(magnitude, 0x38800000), is_huge = ~mask_below(magnitude, 0x477ff000),
             is_nan = mask_below(0x7f800000, magnitude);
    uint32_t half = (tiny & is_tiny) | (normal & ~is_tiny);
    half = (0x7c00 & is_huge) | (half & ~is_huge);
    half = ((0x7e00 | (magnitude >> 13 & 0x3ff)) & is_nan) | (half & ~is_nan);
    return (uint16_t)(half | (u >> 16 & 0x8000));
}

/* Elements of 1, 2, 4 or 8 bytes, in native byte order, at any address. */
static inline uint64_t load_element(const uint8_t *p, unsigned bytes)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    switch (bytes) {
    case 1: return p[0];
    case 2: memcpy(&u16, p, 2); return u16;
    case 4: memcpy(&u32, p, 4); return u32;
    default: memcpy(&u64, p, 8); return u64;
    }
}

static inline void store_element(uint8_t *p, uint64_t u, unsigned bytes)
{
    uint16_t u16 = (uint16_t)u;
    uint32_t u32 = (uint32_t)u;
    switch (bytes) {
    case 1: p[0] = (uint8_t)u; break;
    case 2: memcpy(p, &u16, 2); break;
    case 4: memcpy(p, &u32, 4); break;
    default: memcpy(p, &u, 8);
    }
}
#endif
