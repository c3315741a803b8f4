/* Which predictor is cheapest: measured on a few small tiles spread over the tensor, by the entropy of what each
 * leaves. */
#include "fpenv.h"
#include "internal.h"

enum { SAMPLES = 3, SAMPLE_VALUES = 1 << 12, SAMPLE_LEAST = 1 << 10, SAMPLE_SHARE = 128 };

/* A tile of about a SAMPLE_SHARE-th of all values, within limits, of the frame's own proportions, at sample s of
 * SAMPLES along the tensor's diagonal. */
static tile sample_tile(const szd_header *h, unsigned s)
{
    tile t = {h->tile_rank, {0}, {0}, 1};
    uint64_t extent[SZD_MAX_TILE_RANK], volume = 1;
    for (unsigned a = 0; a < t.rank; a++) {
        extent[a] = h->tile[a];
        volume *= extent[a];
    }
    uint64_t share = h->elements / SAMPLE_SHARE;
    uint64_t most = share < SAMPLE_LEAST ? SAMPLE_LEAST : share > SAMPLE_VALUES ? SAMPLE_VALUES : share;
    while (volume > most) {
        unsigned longest = 0;
        for (unsigned a = 1; a < t.rank; a++)
            longest = extent[a] > extent[longest] ? a : longest;
        volume = volume / extent[longest] * ((extent[longest] + 1) / 2);
        extent[longest] = (extent[longest] + 1) / 2;
    }
    for (unsigned a = 0; a < t.rank; a++) {
        t.extent[a] = extent[a];
        t.origin[a] = (h->dims[a] - extent[a]) * s / (SAMPLES - 1);
        t.count *= extent[a];
    }
    return t;
}

static void quantize_sample(const lattice *l, const szd_header *h, const uint8_t *data, const tile *t, uint8_t *values,
                            int32_t *q, uint32_t *low)
{
    uint64_t strides[SZD_MAX_TILE_RANK], first;
    uint8_t bad[CHUNK];
    tile_strides(h, strides);
    first = first_element(t, strides);
    gather(data + first * h->element_bytes, t, strides, h->element_bytes, values);
    for (size_t done = 0; done < t->count; done += CHUNK) {
        size_t part = t->count - done < CHUNK ? (size_t)(t->count - done) : CHUNK;
        if (lattice_quantize(l, values + done * h->element_bytes, first + done, part, q + done, low, bad))
            for (size_t i = done; i < done + part; i++)
                if (bad[i - done])
                    q[i] = i ? q[i - 1] : 0;
    }
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
        tile t = sample_tile(h, s);
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
