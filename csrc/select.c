/* Which predictor is cheapest: measured on a few small tiles spread over the tensor, by the entropy of what each
 * leaves. */
#include "convert.h"
#include "fpenv.h"
#include "interp_encode.h"
#include "internal.h"

enum { SAMPLES = 3, SAMPLE_VALUES = 1 << 12, SAMPLE_LEAST = 1 << 9, SAMPLE_SHARE = 128 };

/* A tile of at most `volume` values: `extent` with its longest axes halved, at part s of `parts` along the tensor's
 * diagonal. */
static tile tile_within(const szd_header *h, const uint64_t *extent, uint64_t volume, unsigned s, unsigned parts)
{
    tile t = {h->tile_rank, {0}, {0}, 1};
    for (unsigned a = 0; a < t.rank; a++) {
        t.extent[a] = extent[a];
        t.count *= extent[a];
    }
    while (t.count > volume) {
        unsigned longest = 0;
        for (unsigned a = 1; a < t.rank; a++)
            longest = t.extent[a] > t.extent[longest] ? a : longest;
        t.count = t.count / t.extent[longest] * ((t.extent[longest] + 1) / 2);
        t.extent[longest] = (t.extent[longest] + 1) / 2;
    }
    for (unsigned a = 0; a < t.rank; a++)
        t.origin[a] = (h->dims[a] - t.extent[a]) * s / parts;
    return t;
}

/* About a SAMPLE_SHARE-th of all values, within limits; first fewer, which tell of most weights that no prediction
 * pays.
 */
static uint64_t sample_volume(const szd_header *h, bool first)
{
    uint64_t share = first ? 0 : h->elements / SAMPLE_SHARE;
    return share < SAMPLE_LEAST ? SAMPLE_LEAST : share > SAMPLE_VALUES ? SAMPLE_VALUES : share;
}

/* Lattice integers of n values, of which the first is element number `first`; an outlier's is the one before it.
 * Returns how many outliers there are. */
static size_t quantize_values(const lattice *l, const szd_header *h, const uint8_t *values, uint64_t first, size_t n,
                              int32_t *q, uint32_t *low)
{
    uint8_t bad[CHUNK];
    size_t outliers = 0;
    for (size_t done = 0, part; done < n; done += part) {
        part = n - done < CHUNK ? n - done : CHUNK;
        size_t refused = lattice_quantize(l, values + done * h->element_bytes, first + done, part, q + done, low, bad);
        for (size_t i = refused ? next_nonzero(bad, 0, part) : part; i < part; i = next_nonzero(bad, i + 1, part)) {
            q[done + i] = done + i ? q[done + i - 1] : 0;
            outliers++;
        }
    }
    return outliers;
}

static void quantize_sample(const lattice *l, const szd_header *h, const uint8_t *data, const tile *t, uint8_t *values,
                            int32_t *q, uint32_t *low)
{
    uint64_t strides[SZD_MAX_TILE_RANK], first;
    tile_strides(h, strides);
    first = first_element(t, strides);
    gather(data + first * h->element_bytes, t, strides, h->element_bytes, values);
    quantize_values(l, h, values, first, (size_t)t->count, q, low);
}

static uint64_t estimate_tile(const szd_header *h, const tile *t, unsigned predictor, const int32_t *q, uint32_t isa,
                              int32_t *work, uint8_t *scratch)
{
    size_t n = (size_t)t->count;
    memcpy(work, q, n * 4);
    uint64_t side = 0;
    if (predictor == SZD_PREDICT_LORENZO) {
        lorenzo_forward(work, t);
    } else if (predictor == SZD_PREDICT_REGRESSION) {
        int32_t *coefficients = work + n;
        regression_fit(h, t, q, coefficients);
        regression_apply(h, t, coefficients, -1, work);
        size_t each = t->rank + 1, count = regression_coefficients(h, t);
        for (size_t i = each; i < count; i++)
            side += exp_golomb_bits(zigzag((int64_t)coefficients[i] - coefficients[i - each]), 2);
    }
    return tokens_estimate(work, n, isa, scratch) + (side << 16);
}

/* Lattice; integers; a copy with the coefficients; a chunk's low bits; values; histograms. */
size_t estimate_scratch(void)
{
    return sizeof(lattice) + 4 * 7 * SAMPLE_VALUES + 4 * CHUNK + 8 * SAMPLE_VALUES + tokens_scratch(SAMPLE_VALUES) +
           6 * 64;
}

/* After the first sample: not worth a second look where no prediction is cheaper by a tenth (weights), and none itself
 * where both others are out of the running. */
static bool hopeless(const uint64_t cost[3], unsigned samples_seen, unsigned predictor)
{
    uint64_t limit = cost[SZD_PREDICT_NONE] + cost[SZD_PREDICT_NONE] / 10;
    bool lorenzo = cost[SZD_PREDICT_LORENZO] <= limit, regression = cost[SZD_PREDICT_REGRESSION] <= limit;
    if (samples_seen == 0)
        return false;
    if (predictor == SZD_PREDICT_NONE)
        return !lorenzo && !regression;
    return predictor == SZD_PREDICT_LORENZO ? !lorenzo : !regression;
}

int szd_estimate(const szd_header *h, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                 size_t scratch_size, double *bits)
{
    if (scratch_size < szd_encode_scratch(h) || h->kind == SZD_LOSSLESS || h->elements == 0 || h->edge < 2)
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    lattice *l = take(&scratch, sizeof *l);
    lattice_begin(l, h, options->isa);
    int32_t *q = take(&scratch, 4 * SAMPLE_VALUES), *work = take(&scratch, 4 * 6 * SAMPLE_VALUES);
    uint32_t *low = take(&scratch, 4 * CHUNK);
    uint8_t *values = take(&scratch, 8 * SAMPLE_VALUES), *rest = aligned64(scratch);
    uint64_t cost[3] = {0}, seen[3] = {0};
    for (unsigned s = 0; s < SAMPLES && !hopeless(cost, s, SZD_PREDICT_NONE); s++) {
        tile t = tile_within(h, h->tile, sample_volume(h, s == 0), s, SAMPLES - 1);
        quantize_sample(l, h, data, &t, values, q, low);
        for (unsigned p = 0; p < 3; p++)
            if (!hopeless(cost, s, p)) {
                cost[p] += estimate_tile(h, &t, p, q, l->isa, work, rest);
                seen[p] += t.count;
            }
    }
    for (unsigned p = 0; p < 3; p++)
        bits[p] = (double)cost[p] / 65536 / (double)seen[p] + h->wide_bits;
    fp_leave(saved);
    return SZD_OK;
}

/* log2 of the mean of 2 |r| + 1, in 1/65536. */
static uint32_t log_mean(uint64_t sum, uint64_t n)
{
    uint64_t mean = 2 * sum / n + 1;
    return log2_q16(mean < UINT32_MAX ? (uint32_t)mean : UINT32_MAX);
}

/* By how much the logarithm of all magnitudes' mean is above the mean of such logarithms: of each row, and of each
 * column; in 1/65536. It is about the bits a value that knowing the scales of both would save. */
static uint64_t spread_of_scales(const int32_t *r, size_t n, size_t width, uint64_t *columns)
{
    uint64_t all = 0, of_rows = 0, of_columns = 0, rows = n / width;
    memset(columns, 0, width * sizeof *columns);
    for (size_t at = 0; at < n; at += width) {
        uint64_t row = 0;
        for (size_t i = 0; i < width; i++) {
            uint32_t m = r[at + i] < 0 ? -(uint32_t)r[at + i] : (uint32_t)r[at + i];
            row += m;
            columns[i] += m;
        }
        of_rows += log_mean(row, width);
        all += row;
    }
    for (size_t i = 0; i < width; i++)
        of_columns += log_mean(columns[i], rows);
    uint64_t whole = 2 * (uint64_t)log_mean(all, n),
             apart = of_rows / rows + (rows > 1 ? of_columns / width : whole / 2);
    return whole > apart ? whole - apart : 0;
}

typedef struct box_look {
    interp_estimate bits;
    uint64_t scales;
} box_look;

static box_look look_at_box(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *data,
                            uint8_t *scratch)
{
    if (h->predictor == SZD_PREDICT_INTERPOLATION)
        return (box_look){interp_look(interp_run(h, options, t, data, &scratch)), 0};
    size_t n = (size_t)t->count;
    lattice *l = take(&scratch, sizeof *l);
    lattice_begin(l, h, options->isa);
    int32_t *q = take(&scratch, 4 * n), *work = take(&scratch, 4 * 6 * n);
    uint32_t *low = take(&scratch, 4 * CHUNK);
    size_t outliers = quantize_values(l, h, data, 0, n, q, low);
    uint64_t bits = n * (uint64_t)h->wide_bits + outliers * (8 * (uint64_t)h->element_bytes + PLACE_BITS);
    bits = (bits << 16) + estimate_tile(h, t, h->predictor, q, l->isa, work, aligned64(scratch));
    size_t width = row_width(h, t);
    return (box_look){{bits, 0}, width ? spread_of_scales(work, n, width, (void *)(work + 2 * n)) : 0};
}

int szd_estimate_box(const szd_header *h, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                     size_t scratch_size, double *bits)
{
    tile t;
    if (scratch_size < szd_encode_scratch(h) || h->kind == SZD_LOSSLESS || !tile_of(h, 0, &t) || t.count != h->elements)
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    box_look look = look_at_box(h, options, &t, data, scratch);
    bits[0] = (double)look.bits.payload / 65536;
    bits[1] = (double)look.bits.tables / 65536;
    bits[2] = (double)look.scales / 65536;
    fp_leave(saved);
    return SZD_OK;
}

/* Eight sums side by side, which do not wait for each other. */
static double sum_of(const double *x, size_t n)
{
    double lanes[8] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            lanes[k] += x[i + k];
    for (; i < n; i++)
        sum += x[i];
    for (size_t k = 0; k < 8; k++)
        sum += lanes[k];
    return sum;
}

/* The mean of the squared steps between neighbours along axis a. */
static double mean_square_step(const double *x, const tile *t, unsigned a)
{
    const size_t n = (size_t)t->count, stride = stride_of(t, a), run = stride * (size_t)t->extent[a];
    double squares[SAMPLE_VALUES];
    size_t count = 0;
    for (size_t start = 0; start < n; start += run)
        for (size_t i = start + stride; i < start + run; i++) {
            double step = x[i] - x[i - stride];
            squares[count++] = step * step;
        }
    return sum_of(squares, count) / (double)count;
}

static double variance(const double *x, size_t n)
{
    const double mean = sum_of(x, n) / (double)n;
    double squares[SAMPLE_VALUES];
    for (size_t i = 0; i < n; i++)
        squares[i] = (x[i] - mean) * (x[i] - mean);
    return sum_of(squares, n) / (double)n;
}

/* Correlation above a half: the mean of (x - y)^2 is below the variance. Never where a value is not finite. */
int szd_neighbours_alike(const szd_header *h, const uint8_t *data, uint64_t volume, uint64_t least, uint32_t *alike)
{
    uint64_t strides[SZD_MAX_TILE_RANK];
    uint8_t values[8 * SAMPLE_VALUES];
    double x[SAMPLE_VALUES];
    *alike = 0;
    if (volume > SAMPLE_VALUES || h->dtype > DT_F64 || h->elements == 0)
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    tile t = tile_within(h, h->dims, volume, 1, 2);
    tile_strides(h, strides);
    gather(data + first_element(&t, strides) * h->element_bytes, &t, strides, h->element_bytes, values);
    load_wide(h->dtype, values, (size_t)t.count, x);
    const double spread = variance(x, (size_t)t.count);
    for (unsigned a = 0; a < t.rank; a++)
        if (t.extent[a] >= least && mean_square_step(x, &t, a) < spread)
            *alike = 1;
    fp_leave(saved);
    return SZD_OK;
}
