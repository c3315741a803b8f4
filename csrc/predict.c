/* Prediction on lattice integers, a whole tile at a time, in place. All of it is exact integer arithmetic modulo 2^32,
 * so that the decoder undoes it whatever the values. */
#include "internal.h"

static void add_rows(uint32_t *row, const uint32_t *other, size_t n)
{
    for (size_t i = 0; i < n; i++)
        row[i] += other[i];
}

static void subtract_rows(uint32_t *row, const uint32_t *other, size_t n)
{
    for (size_t i = 0; i < n; i++)
        row[i] -= other[i];
}

/* The Lorenzo residual (Ibarria et al. 2003) of any rank is the difference taken once along each axis. */
void lorenzo_forward(int32_t *q, const tile *t)
{
    uint32_t *u = (uint32_t *)q;
    for (unsigned a = 0; a < t->rank; a++) {
        size_t stride = stride_of(t, a), span = stride * t->extent[a];
        for (size_t start = 0; start < t->count; start += span)
            for (size_t i = t->extent[a]; i-- > 1;)
                subtract_rows(u + start + i * stride, u + start + (i - 1) * stride, stride);
    }
}

static void sum_row(uint32_t *row, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        row[i] = sum += row[i];
}

void lorenzo_backward(int32_t *q, const tile *t)
{
    uint32_t *u = (uint32_t *)q;
    for (unsigned a = 0; a < t->rank; a++) {
        size_t stride = stride_of(t, a), span = stride * t->extent[a];
        for (size_t start = 0; start < t->count; start += span)
            if (stride == 1)
                sum_row(u + start, span);
            else
                for (size_t i = 1; i < t->extent[a]; i++)
                    add_rows(u + start + i * stride, u + start + (i - 1) * stride, stride);
    }
}

/* Regression (Liang et al. 2018, section IV): a plane a sub-block. Ranks below four are seen as four with leading
 * extents of one; `lead` of them have no slope of their own. */
typedef struct sub_grid {
    unsigned lead;
    size_t extent[4], stride[4], blocks[4], edge;
} sub_grid;

static sub_grid grid_of(const szd_header *h, const tile *t)
{
    sub_grid g = {4 - t->rank, {1, 1, 1, 1}, {0, 0, 0, 0}, {1, 1, 1, 1}, h->edge};
    for (unsigned a = 0; a < t->rank; a++) {
        g.extent[g.lead + a] = t->extent[a];
        g.stride[g.lead + a] = stride_of(t, a);
        g.blocks[g.lead + a] = (t->extent[a] + g.edge - 1) / g.edge;
    }
    return g;
}

static size_t grid_count(const sub_grid *g) { return g->blocks[0] * g->blocks[1] * g->blocks[2] * g->blocks[3]; }

size_t regression_coefficients(const szd_header *h, const tile *t)
{
    sub_grid g = grid_of(h, t);
    return grid_count(&g) * (t->rank + 1);
}

/* Sub-block number b: its first element, and its size along the four axes. */
static size_t sub_block(const sub_grid *g, size_t b, size_t size[4])
{
    size_t first = 0;
    for (unsigned a = 4; a-- > 0;) {
        size_t at = b % g->blocks[a] * g->edge, rest = g->extent[a] - at;
        b /= g->blocks[a];
        size[a] = rest < g->edge ? rest : g->edge;
        first += at * g->stride[a];
    }
    return first;
}

static int32_t fixed_point(double v, unsigned bits)
{
    double scaled = v * (double)(1u << bits);
    scaled = scaled < -1e9 ? -1e9 : scaled > 1e9 ? 1e9 : scaled;
    return (int32_t)(scaled + (scaled < 0 ? -0.5 : 0.5));
}

/* Least squares on a full grid: the axes are orthogonal, so each slope is its own moment over the sum of squared
 * distances from the middle, n (s^2 - 1) / 12. c[0] is the value at the sub-block's first corner. */
static void fit_block(const sub_grid *g, const int32_t *q, const size_t size[4], unsigned bits, int32_t *c)
{
    double sum = 0, moment[4] = {0}, corner;
    double n = (double)(size[0] * size[1] * size[2] * size[3]);
    for (size_t i = 0; i < size[0]; i++)
        for (size_t j = 0; j < size[1]; j++)
            for (size_t k = 0; k < size[2]; k++) {
                const int32_t *row = q + i * g->stride[0] + j * g->stride[1] + k * g->stride[2];
                double line = 0, slope = 0;
                for (size_t m = 0; m < size[3]; m++) {
                    line += row[m];
                    slope += (double)row[m] * (double)m;
                }
                sum += line;
                moment[0] += line * (double)i;
                moment[1] += line * (double)j;
                moment[2] += line * (double)k;
                moment[3] += slope;
            }
    corner = sum / n;
    for (unsigned a = g->lead; a < 4; a++) {
        double s = (double)size[a], middle = (s - 1) / 2, spread = n * (s * s - 1) / 12;
        double slope = size[a] > 1 ? (moment[a] - sum * middle) / spread : 0;
        corner -= slope * middle;
        c[1 + a - g->lead] = fixed_point(slope, bits);
    }
    c[0] = fixed_point(corner, bits);
}

void regression_fit(const szd_header *h, const tile *t, const int32_t *q, int32_t *coefficients)
{
    sub_grid g = grid_of(h, t);
    size_t count = grid_count(&g), size[4];
    for (size_t b = 0; b < count; b++) {
        size_t first = sub_block(&g, b, size);
        fit_block(&g, q + first, size, h->fraction_bits, coefficients + b * (t->rank + 1));
    }
}

/* q += sign x plane over one sub-block */
static void add_plane(const sub_grid *g, const size_t size[4], const int32_t *c, unsigned bits, int32_t sign,
                      uint32_t *q)
{
    int64_t slope[4] = {0};
    for (unsigned a = g->lead; a < 4; a++)
        slope[a] = c[1 + a - g->lead];
    int64_t corner = c[0] + (bits ? (int64_t)1 << (bits - 1) : 0);
    for (size_t i = 0; i < size[0]; i++)
        for (size_t j = 0; j < size[1]; j++)
            for (size_t k = 0; k < size[2]; k++) {
                uint32_t *row = q + i * g->stride[0] + j * g->stride[1] + k * g->stride[2];
                int64_t p = corner + (int64_t)i * slope[0] + (int64_t)j * slope[1] + (int64_t)k * slope[2];
                for (size_t m = 0; m < size[3]; m++, p += slope[3])
                    row[m] += (uint32_t)sign * (uint32_t)(p >> bits);
            }
}

void regression_apply(const szd_header *h, const tile *t, const int32_t *coefficients, int32_t sign, int32_t *q)
{
    sub_grid g = grid_of(h, t);
    size_t count = grid_count(&g), size[4];
    for (size_t b = 0; b < count; b++) {
        size_t first = sub_block(&g, b, size);
        add_plane(&g, size, coefficients + b * (t->rank + 1), h->fraction_bits, sign, (uint32_t *)q + first);
    }
}
