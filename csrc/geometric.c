/* The geometric lattice of PointwiseRel: magnitudes 2^(i/n), in arithmetic that is the same everywhere (FORMAT.md,
 * section 8). */
#include "internal.h"

/* R_k = floor(2^63 2^(2^-k)) by R_k = isqrt(R_(k-1) 2^63), R_0 = 2^64; tests/test_native.py derives them again. */
static const uint64_t ROOTS[49] = {
#include "roots.inc"
};

static uint64_t product(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 63); }

static void make_powers(uint64_t powers[6][256])
{
    for (unsigned p = 0; p < 6; p++)
        for (unsigned v = 0; v < 256; v++) {
            uint64_t m = (uint64_t)1 << 63;
            for (unsigned t = 1; t <= 8; t++)
                if (v >> (8 - t) & 1)
                    m = product(m, ROOTS[8 * p + t]);
            powers[p][v] = m;
        }
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
    uint64_t f = (uint64_t)(((unsigned __int128)j << 48) / l->points), m = l->powers[0][f >> 40];
    for (unsigned p = 1; p < 6; p++)
        m = product(m, l->powers[p][f >> (40 - 8 * p) & 0xff]);
    return m;
}

/* The fewest mantissas that serve usual bounds are worked out once. */
void geometric_begin(lattice *l)
{
    make_powers(l->powers);
    l->cached = l->points <= GEOMETRIC_CACHE ? l->points : 0;
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
static double log2_mantissa(double m)
{
    double shift = 0;
    if (m > 1.4142135623730951) {
        m *= 0.5;
        shift = 1;
    }
    static const double odd[12] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                   1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1};
    double z = (m - 1) / (m + 1), z2 = z * z, sum = 0;
    for (int k = 0; k < 12; k++)
        sum = sum * z2 + odd[k];
    return shift + 2.8853900817779268 * z * sum; /* 2 / ln 2 */
}

/* The nearest lattice point to a normal x, as q; 0 where there is none within 32 bits. */
int32_t geometric_index(const lattice *l, double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    int64_t exponent = (int64_t)(u >> 52 & 0x7ff);
    if (exponent == 0 || exponent == 0x7ff)
        return 0;
    u = (u & 0xfffffffffffff) | 0x3ff0000000000000;
    double m;
    memcpy(&m, &u, 8);
    double index = (double)(exponent - 1023) * l->points + log2_mantissa(m) * l->points;
    int64_t i = (int64_t)(index + (index < 0 ? -0.5 : 0.5)) - l->first;
    if (i < 0 || i >= INT32_MAX / 2)
        return 0;
    return (int32_t)((uint32_t)i << l->has_signs | (l->has_signs && x < 0)) + 1;
}
