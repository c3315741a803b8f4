/* Floats by their patterns, which loops of vectors take where float comparisons stop them; alike for float and double.
 */
#ifndef SZD_INTERP_PATTERNS_H
#define SZD_INTERP_PATTERNS_H
#include "convert.h"

INLINE double stored_double(uint32_t dtype, double v)
{
    return dtype == DT_F64 ? v : (double)as_stored(dtype, (float)v);
}

INLINE float stored_single(uint32_t dtype, float v) { return as_stored(dtype, v); }

/* 0 for what is not finite. */
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

INLINE double f64_from_bits(uint64_t u)
{
    double v;
    memcpy(&v, &u, 8);
    return v;
}

INLINE double finite_double(double v)
{
    uint64_t u = f64_bits(v);
    return f64_from_bits((u & 0x7fffffffffffffff) < 0x7ff0000000000000 ? u : 0);
}

INLINE uint32_t is_zero_single(float v) { return f32_bits(v) << 1 == 0; }
INLINE uint32_t is_zero_double(double v) { return f64_bits(v) << 1 == 0; }
INLINE uint32_t is_strange_single(float v) { return (f32_bits(v) & 0x7f800000) == 0x7f800000; }
INLINE uint32_t is_strange_double(double v) { return (f64_bits(v) & 0x7ff0000000000000) == 0x7ff0000000000000; }

/* The nearest integer, to even, as the low bits of t + 1.5 2^23 (2^52). Beyond 2^22 (2^51), and for NaN, it is some
 * integer, whose reconstruction is refused like any other that is too far off. */
INLINE int32_t nearest_single(float t) { return (int32_t)(f32_bits(t + 0x1.8p23f) - 0x4b400000); }
INLINE int32_t nearest_double(double t) { return (int32_t)(uint32_t)f64_bits(t + 0x1.8p52); }

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
#endif
