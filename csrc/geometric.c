/* The geometric lattice of PointwiseRel: magnitudes 2^(i/n), in arithmetic that is the same everywhere (FORMAT.md,
 * section 8). */
#include "internal.h"

enum { FEW_VALUES = 256 };

/* R_k = floor(2^63 2^(2^-k)) by R_k = isqrt(R_(k-1) 2^63), R_0 = 2^64; tests/test_native.py derives them again. */
static const uint64_t ROOTS[49] = {
#include "roots.inc"
};

static uint64_t product(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 63); }

/* T_p of FORMAT.md, section 8, for the byte v. */
static uint64_t power_of(unsigned p, unsigned v)
{
    uint64_t m = (uint64_t)1 << 63;
    for (unsigned t = 1; t <= 8; t++)
        if (v >> (8 - t) & 1)
            m = product(m, ROOTS[8 * p + t]);
    return m;
}

static double power_of_two(int64_t e)
{
    uint64_t u = (uint64_t)(e + 1023) << 52;
    double d;
    memcpy(&d, &u, 8);
    return d;
}

/* x 2^e rounded once, for x in [2^52, 2^53): the last product is the only inexact one. */
static double scale(double x, int64_t e)
{
    if (e > 971)
        return x * power_of_two(971) * power_of_two(e - 971 < 1000 ? e - 971 : 1000);
    if (e >= -1022)
        return x * power_of_two(e);
    return e < -1200 ? 0.0 : x * power_of_two(-200) * power_of_two(e + 200);
}

/* The mantissa of 2^(j/n), in [2^63, 2^64). */
static uint64_t mantissa_of(const lattice *l, uint64_t j)
{
    uint64_t f = (uint64_t)(((unsigned __int128)j << 48) / l->points), m = (uint64_t)1 << 63;
    for (unsigned p = 0; p < 6; p++) {
        unsigned v = f >> (40 - 8 * p) & 0xff;
        uint64_t power = l->has_powers ? l->powers[p][v] : power_of(p, v);
        m = p ? product(m, power) : power;
    }
    return m;
}

/* The fewest mantissas that serve usual bounds are worked out once; where there are few values, neither these nor the
 * powers, which would take longer than all else. */
void geometric_begin(lattice *l, uint64_t values)
{
    l->has_powers = values >= FEW_VALUES;
    for (unsigned p = 0; l->has_powers && p < 6; p++)
        for (unsigned v = 0; v < 256; v++)
            l->powers[p][v] = power_of(p, v);
    l->cached = l->has_powers && l->points <= GEOMETRIC_CACHE ? l->points : 0;
    for (uint32_t j = 0; j < l->cached; j++)
        l->mantissas[j] = mantissa_of(l, j);
}

double geometric_value(const lattice *l, int32_t q)
{
    if (q == 0)
        return 0;
    uint32_t a = (uint32_t)q - 1, negative = l->has_signs & a;
    int64_t n = l->points, i = (int64_t)(a >> l->has_signs) + l->first;
    int64_t e = i >= 0 ? i / n : -((-i + n - 1) / n), j = i - e * n;
    uint64_t m = l->cached ? l->mantissas[j] : mantissa_of(l, (uint64_t)j);
    double x = scale((double)(m >> 11), e - 52);
    return negative & 1 ? -x : x;
}

/* log2 of a mantissa in [1, 2) by the series of atanh: sums and products of doubles only, so that the same index is
 * chosen on every machine. Good to about 1e-15; the caller checks what comes of it. */
INLINE double log2_mantissa(uint64_t u)
{
    uint64_t upper = u > 0x3ff6a09e667f3bcd; /* m > 1.4142135623730951 */
    u -= upper << 52;
    double m;
    memcpy(&m, &u, 8);
    double z = (m - 1) / (m + 1), z2 = z * z, sum = 0; /* written out, or it would not vectorise over values */
    sum = sum * z2 + 1.0 / 23;
    sum = sum * z2 + 1.0 / 21;
    sum = sum * z2 + 1.0 / 19;
    sum = sum * z2 + 1.0 / 17;
    sum = sum * z2 + 1.0 / 15;
    sum = sum * z2 + 1.0 / 13;
    sum = sum * z2 + 1.0 / 11;
    sum = sum * z2 + 1.0 / 9;
    sum = sum * z2 + 1.0 / 7;
    sum = sum * z2 + 1.0 / 5;
    sum = sum * z2 + 1.0 / 3;
    sum = sum * z2 + 1;
    return (double)(int64_t)upper + 2.8853900817779268 * z * sum; /* 2 / ln 2 */
}

/* The nearest lattice point to a normal x, as q; 0 where there is none within 32 bits. Signs and comparisons are taken
 * from the bits: without branches it vectorises. */
INLINE int32_t index_of(double points, int64_t first, uint32_t has_signs, double x)
{
    uint64_t u, half;
    memcpy(&u, &x, 8);
    uint32_t negative = (uint32_t)(u >> 63);
    int64_t exponent = (int64_t)(u >> 52 & 0x7ff);
    u = (u & 0xfffffffffffff) | 0x3ff0000000000000;
    double index = (double)(exponent - 1023) * points + log2_mantissa(u) * points, rounding;
    memcpy(&half, &index, 8);
    half = (half & 0x8000000000000000) | 0x3fe0000000000000; /* 0.5 with the index's sign */
    memcpy(&rounding, &half, 8);
    int64_t i = (int64_t)(index + rounding) - first;
    uint32_t fits = (exponent != 0) & (exponent != 0x7ff) & (i >= 0) & (i < INT32_MAX / 2);
    uint32_t q = ((uint32_t)i << has_signs | (has_signs & negative)) + 1;
    return (int32_t)(q & (0 - fits));
}

INLINE void indices_body(const lattice *l, const double *x, size_t n, int32_t *q)
{
    const double points = l->points;
    const int64_t first = l->first;
    const uint32_t has_signs = l->has_signs;
    for (size_t i = 0; i < n; i++)
        q[i] = index_of(points, first, has_signs, x[i]);
}

static void indices_scalar(const lattice *l, const double *x, size_t n, int32_t *q) { indices_body(l, x, n, q); }
TARGET_AVX2 static void indices_avx2(const lattice *l, const double *x, size_t n, int32_t *q)
{
    indices_body(l, x, n, q);
}
TARGET_AVX512 static void indices_avx512(const lattice *l, const double *x, size_t n, int32_t *q)
{
    indices_body(l, x, n, q);
}

void geometric_indices(const lattice *l, const double *x, size_t n, int32_t *q) { PICK(l->isa, indices)(l, x, n, q); }
