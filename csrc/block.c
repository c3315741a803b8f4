/* One block: gather the tile, quantise, predict, code; and back (FORMAT.md, sections 3, 6 and 7). */
#include "fpenv.h"
#include "internal.h"

enum { MODE_LATTICE = 0, MODE_PLANES = 1, MODE_CONSTANT = 2, MODE_RAW = 3 };

static uint8_t *aligned64(uint8_t *p) { return p + (-(uintptr_t)p & 63); }

/* Hands out parts of a scratch buffer, each on a cache line. */
static void *take(uint8_t **scratch, size_t size)
{
    uint8_t *p = aligned64(*scratch);
    *scratch = p + size;
    return p;
}

size_t szd_block_bound(const szd_header *h)
{
    return 2 * (size_t)largest_tile(h) * h->element_bytes + 4096;
}

size_t szd_encode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), b = h->element_bytes;
    size_t coding = tokens_scratch(n) > planes_scratch(n) ? tokens_scratch(n) : planes_scratch(n);
    size_t values = n * b + n * 4 + n * 4 + n * 4 + n * b; /* gathered; q; low bits; outlier positions and elements */
    size_t all = values + coding + sizeof(lattice) + n * 4 * 5 + 16 * 64, sampling = estimate_scratch();
    return all > sampling ? all : sampling;
}

typedef struct outlier_list {
    size_t count;
    uint32_t *positions;
    uint8_t *elements;
} outlier_list;

static void write_exp_golomb_list(const uint32_t *values, size_t n, writer *w)
{
    uint64_t costs[32] = {0};
    unsigned order = 0;
    for (unsigned g = 0; g < 32; g++) {
        for (size_t i = 0; i < n; i++)
            costs[g] += exp_golomb_bits(values[i], g);
        order = costs[g] < costs[order] ? g : order;
    }
    write_u8(w, order);
    write_varint(w, (costs[order] + 7) / 8);
    bit_writer b = {w, 0, 0};
    for (size_t i = 0; i < n; i++)
        put_exp_golomb(&b, values[i], order);
    flush_bits(&b);
}

static void write_outliers(const outlier_list *o, unsigned bytes, const szd_options *options, uint8_t *scratch, writer *w)
{
    write_varint(w, o->count);
    if (!o->count)
        return;
    for (size_t i = o->count; i-- > 1;)
        o->positions[i] -= o->positions[i - 1] + 1;
    write_exp_golomb_list(o->positions, o->count, w);
    planes_encode(o->elements, o->count, bytes, true, false, options->coder, isa_resolve(options->isa), scratch, w);
}

static void write_coefficients(const szd_header *h, const tile *t, const int32_t *coefficients, uint32_t *scratch, writer *w)
{
    size_t each = t->rank + 1, blocks = regression_coefficients(h, t) / each;
    for (size_t j = 0; j < each; j++) {
        uint32_t previous = 0;
        for (size_t b = 0; b < blocks; b++) {
            uint32_t c = (uint32_t)coefficients[b * each + j];
            scratch[b] = (uint32_t)zigzag((int32_t)(c - previous));
            previous = c;
        }
        write_exp_golomb_list(scratch, blocks, w);
    }
}

/* Quantises the tile; an outlier's lattice integer is its neighbour's, which costs the predictors least. False when most are outliers. */
static bool quantize_tile(const lattice *l, const uint8_t *values, uint64_t first, size_t n, int32_t *q, uint32_t *low, outlier_list *o)
{
    unsigned bytes = dtype_of(l->dtype).element_bytes;
    uint8_t bad[CHUNK];
    o->count = 0;
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t part = n - done < CHUNK ? n - done : CHUNK;
        if (!lattice_quantize(l, values + done * bytes, first + done, part, q + done, low ? low + done : NULL, bad))
            continue;
        for (size_t i = done; i < done + part; i++)
            if (bad[i - done]) {
                q[i] = i ? q[i - 1] : 0;
                memcpy(o->elements + o->count * bytes, values + i * bytes, bytes);
                o->positions[o->count++] = (uint32_t)i;
            }
        if (o->count > n / 2 && o->count > 16)
            return false;
    }
    return true;
}

static bool encode_lattice(const szd_header *h, const szd_options *options, const tile *t, uint64_t first,
                           const uint8_t *values, uint8_t *scratch, writer *w)
{
    size_t n = (size_t)t->count;
    lattice *l = take(&scratch, sizeof *l);
    int32_t *q = take(&scratch, n * 4);
    uint32_t *low = h->wide_bits ? take(&scratch, n * 4) : NULL;
    uint32_t *zeros = h->kind == SZD_LINEAR64 && !low ? take(&scratch, n * 4) : low;
    outlier_list o = {0, take(&scratch, n * 4), take(&scratch, n * h->element_bytes)};
    lattice_begin(l, h, options->isa);
    if (!quantize_tile(l, values, first, n, q, zeros, &o))
        return false;
    write_u8(w, MODE_LATTICE);
    write_outliers(&o, h->element_bytes, options, scratch, w);
    if (low)
        write_packed(low, n, h->wide_bits, w);
    if (h->predictor == SZD_PREDICT_LORENZO)
        lorenzo_forward(q, t);
    if (h->predictor == SZD_PREDICT_REGRESSION) {
        int32_t *coefficients = take(&scratch, regression_coefficients(h, t) * 4);
        regression_fit(h, t, q, coefficients);
        regression_apply(h, t, coefficients, -1, q);
        write_coefficients(h, t, coefficients, (uint32_t *)(void *)aligned64(scratch), w);
    }
    tokens_encode(q, n, options->coder, isa_resolve(options->isa), aligned64(scratch), w);
    return !w->failed;
}

static void write_elements(const uint8_t *elements, size_t n, unsigned bytes, writer *w)
{
    uint8_t *p = write_room(w, (uint64_t)n * bytes);
    if (!p)
        return;
    memcpy(p, elements, n * bytes);
    to_little_endian(p, n, bytes);
}

static void encode_lossless(const szd_header *h, const szd_options *options, const uint8_t *values, size_t n, uint8_t *scratch, writer *w)
{
    writer start = *w;
    bool is_float = dtype_of(h->dtype).is_float;
    write_u8(w, MODE_PLANES);
    planes_encode(values, n, h->element_bytes, is_float, h->kind == SZD_LOSSLESS && h->predictor, options->coder,
                  isa_resolve(options->isa), scratch, w);
    if (w->failed || (size_t)(w->at - start.at) > 1 + n * h->element_bytes) {
        *w = start;
        write_u8(w, MODE_RAW);
        write_elements(values, n, h->element_bytes, w);
    }
}

static bool is_constant(const uint8_t *values, size_t n, unsigned bytes)
{
    return memcmp(values, values + bytes, (n - 1) * bytes) == 0;
}

/* The lattice block if it is the smaller; the lossless one is tried only where it might be. */
static void encode_smallest(const szd_header *h, const szd_options *options, const tile *t, uint64_t first,
                            const uint8_t *values, uint8_t *scratch, writer *w)
{
    size_t n = (size_t)t->count, raw = n * h->element_bytes;
    writer lossy = {w->at, w->end < w->at + raw + 1024 ? w->end : w->at + raw + 1024, false};
    bool ok = h->kind != SZD_LOSSLESS && encode_lattice(h, options, t, first, values, scratch, &lossy);
    size_t lossy_size = ok ? (size_t)(lossy.at - w->at) : SIZE_MAX;
    if (n > 4096 && lossy_size < raw / 2) {
        w->at = lossy.at;
        return;
    }
    writer lossless = {ok ? lossy.at : w->at, w->end, false};
    uint8_t *from = lossless.at;
    encode_lossless(h, options, values, n, scratch, &lossless);
    size_t size = (size_t)(lossless.at - from);
    w->failed = lossless.failed;
    if (lossless.failed || lossy_size <= size)
        size = lossy_size;
    else
        memmove(w->at, from, size);
    w->at += size;
}

int szd_encode_block(const szd_header *h, const szd_options *options, const uint8_t *data, uint64_t block,
                     uint8_t *scratch, size_t scratch_size, uint8_t *out, size_t capacity, size_t *size)
{
    tile t;
    *size = 0;
    if (!tile_of(h, block, &t) || scratch_size < szd_encode_scratch(h) || capacity < szd_block_bound(h))
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    uint64_t strides[SZD_MAX_TILE_RANK], first;
    tile_strides(h, strides);
    first = first_element(&t, strides);
    const uint8_t *values = data + first * h->element_bytes;
    if (t.rank > 1) {
        uint8_t *gathered = take(&scratch, t.count * h->element_bytes);
        gather(values, &t, strides, h->element_bytes, gathered);
        values = gathered;
    }
    writer w = {out, out + capacity, false};
    if (is_constant(values, t.count, h->element_bytes)) {
        write_u8(&w, MODE_CONSTANT);
        write_elements(values, 1, h->element_bytes, &w);
    } else {
        encode_smallest(h, options, &t, first, values, scratch, &w);
    }
    fp_leave(saved);
    *size = (size_t)(w.at - out);
    return w.failed ? SZD_BUFFER_TOO_SMALL : SZD_OK;
}

/* ---- decoding ---- */

typedef struct block_decoder {
    lattice l;
    planes_decoder planes;
    token_decoder tokens;
    int32_t q[CHUNK];
    uint32_t low[CHUNK];
    uint8_t elements[CHUNK * 8];
} block_decoder;

size_t szd_decode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), predicted = h->kind != SZD_LOSSLESS && h->predictor ? n * 4 : 0;
    tile whole = {h->tile_rank, {0}, {1, 1, 1, 1}, n};
    for (unsigned a = 0; a < h->tile_rank; a++)
        whole.extent[a] = h->tile[a];
    size_t coefficients = h->predictor == SZD_PREDICT_REGRESSION ? regression_coefficients(h, &whole) * 4 : 0;
    return sizeof(block_decoder) + predicted + coefficients + 4 * 64;
}

static int decode_constant(reader *r, unsigned bytes, uint64_t n, block_decoder *d, sink *s)
{
    const uint8_t *p = read_bytes(r, bytes);
    if (!p)
        return SZD_BLOCK_SHORT;
    for (size_t i = 0; i < CHUNK; i++)
        memcpy(d->elements + i * bytes, p, bytes);
    to_little_endian(d->elements, CHUNK, bytes);
    for (; n; n -= n < CHUNK ? n : CHUNK)
        sink_write(s, d->elements, n < CHUNK ? n : CHUNK);
    return SZD_OK;
}

static int decode_raw(reader *r, unsigned bytes, uint64_t n, block_decoder *d, sink *s)
{
    while (n) {
        uint64_t part = n < CHUNK ? n : CHUNK;
        const uint8_t *p = read_bytes(r, part * bytes);
        if (!p)
            return SZD_BLOCK_SHORT;
        memcpy(d->elements, p, part * bytes);
        to_little_endian(d->elements, part, bytes);
        sink_write(s, d->elements, part);
        n -= part;
    }
    return SZD_OK;
}

static int decode_planes(const szd_header *h, reader *r, uint64_t n, uint32_t isa, block_decoder *d, sink *s)
{
    bool delta = h->kind == SZD_LOSSLESS && h->predictor;
    int status = planes_begin(&d->planes, r, n, h->element_bytes, dtype_of(h->dtype).is_float, delta);
    if (status)
        return status;
    while (n) {
        uint64_t part = n < CHUNK ? n : CHUNK;
        if (!planes_next(&d->planes, d->elements, part, isa))
            return SZD_BLOCK_CODES;
        sink_write(s, d->elements, part);
        n -= part;
    }
    return planes_finished(&d->planes) ? SZD_OK : SZD_BLOCK_CODES;
}

/* A list of Exp-Golomb numbers: order, length, bits. */
static int begin_list(reader *r, bit_reader *b, unsigned *order)
{
    *order = read_u8(r);
    uint64_t size = read_varint(r);
    const uint8_t *p = read_bytes(r, size);
    if (!p)
        return SZD_BLOCK_SHORT;
    *b = (bit_reader){p, p + size, 0, 0, false};
    return *order <= 40 ? SZD_OK : SZD_BLOCK_NUMBERS;
}

static bool list_finished(bit_reader *b) { return end_bits(b) == b->end && !b->failed; }

typedef struct outlier_reader {
    uint64_t count;
    unsigned order;
    bit_reader gaps;
} outlier_reader;

static int begin_outliers(const szd_header *h, reader *r, uint64_t n, block_decoder *d, outlier_reader *o)
{
    o->count = read_varint(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (o->count > n)
        return SZD_BLOCK_OUTLIERS;
    if (!o->count)
        return SZD_OK;
    int status = begin_list(r, &o->gaps, &o->order);
    return status ? status : planes_begin(&d->planes, r, o->count, h->element_bytes, true, false);
}

static int decode_outliers(outlier_reader *o, const tile *t, const uint64_t *strides, uint32_t isa, unsigned bytes, block_decoder *d, uint8_t *out)
{
    uint64_t position = 0;
    for (uint64_t i = 0; i < o->count; i++) {
        uint64_t gap = get_exp_golomb(&o->gaps, o->order), at = i % CHUNK, rest = o->count - i;
        position = i ? position + 1 : 0;
        if (o->gaps.failed || gap >= t->count || (position += gap) >= t->count)
            return SZD_BLOCK_OUTLIERS;
        if (at == 0 && !planes_next(&d->planes, d->elements, rest < CHUNK ? rest : CHUNK, isa))
            return SZD_BLOCK_CODES;
        memcpy(out + offset_in(t, strides, position) * bytes, d->elements + at * bytes, bytes);
    }
    if (o->count && !(list_finished(&o->gaps) && planes_finished(&d->planes)))
        return SZD_BLOCK_OUTLIERS;
    return SZD_OK;
}

static int read_coefficients(const szd_header *h, const tile *t, reader *r, int32_t *coefficients)
{
    size_t each = t->rank + 1, blocks = regression_coefficients(h, t) / each;
    for (size_t j = 0; j < each; j++) {
        bit_reader b;
        unsigned order;
        uint32_t c = 0;
        int status = begin_list(r, &b, &order);
        if (status)
            return status;
        for (size_t i = 0; i < blocks; i++) {
            uint64_t u = get_exp_golomb(&b, order);
            if (b.failed || u > UINT32_MAX)
                return SZD_BLOCK_NUMBERS;
            c += (uint32_t)unzigzag(u);
            coefficients[i * each + j] = (int32_t)c;
        }
        if (!list_finished(&b))
            return SZD_BLOCK_NUMBERS;
    }
    return SZD_OK;
}

typedef struct low_bits {
    const uint8_t *at;
    size_t size;
    unsigned width;
} low_bits;

static int begin_low_bits(reader *r, uint64_t n, unsigned width, low_bits *low)
{
    *low = (low_bits){NULL, (size_t)((n * width + 7) / 8), width};
    low->at = read_bytes(r, low->size);
    if (!low->at)
        return SZD_BLOCK_SHORT;
    unsigned used = (unsigned)(n * width & 7);
    return used && low->at[low->size - 1] >> used ? SZD_BLOCK_NUMBERS : SZD_OK;
}

static void unpack_low_bits(const low_bits *low, uint64_t position, size_t n, uint32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = low->width ? packed_at(low->at, low->size, (position + i) * low->width, low->width) : 0;
}

/* The tile's lattice integers, chunk by chunk (`q` NULL) or predicted from a whole tile of residuals, to values in their places. */
static int reconstruct_tile(block_decoder *d, const low_bits *low, uint64_t first, uint64_t n, uint32_t isa, const int32_t *q, sink *s)
{
    for (uint64_t done = 0; done < n;) {
        size_t part = n - done < CHUNK ? (size_t)(n - done) : CHUNK;
        const int32_t *from = q ? q + done : d->q;
        int status = q ? SZD_OK : tokens_decode(&d->tokens, d->q, part, isa);
        if (status)
            return status;
        unpack_low_bits(low, done, low->width ? part : 0, d->low);
        lattice_reconstruct(&d->l, from, low->width ? d->low : NULL, first + done, part, d->elements);
        sink_write(s, d->elements, part);
        done += part;
    }
    return SZD_OK;
}

static size_t coefficient_bytes(const szd_header *h, const tile *t)
{
    return h->predictor == SZD_PREDICT_REGRESSION ? regression_coefficients(h, t) * 4 : 0;
}

/* All sections up to the symbols, each ready to be drawn from. */
static int begin_lattice(const szd_header *h, const tile *t, reader *r, block_decoder *d, outlier_reader *o, low_bits *low, int32_t *coefficients)
{
    int status = begin_outliers(h, r, t->count, d, o);
    if (status == SZD_OK)
        status = begin_low_bits(r, t->count, h->wide_bits, low);
    if (status == SZD_OK && h->predictor == SZD_PREDICT_REGRESSION)
        status = read_coefficients(h, t, r, coefficients);
    return status ? status : tokens_begin(&d->tokens, r, t->count);
}

static int decode_lattice(const szd_header *h, const tile *t, uint64_t first, reader *r, uint32_t isa,
                          block_decoder *d, uint8_t *scratch, const uint64_t *strides, sink *s)
{
    outlier_reader o = {0};
    low_bits low;
    int32_t *coefficients = take(&scratch, coefficient_bytes(h, t)), *q = h->predictor ? take(&scratch, t->count * 4) : NULL;
    int status = begin_lattice(h, t, r, d, &o, &low, coefficients);
    if (status == SZD_OK && q)
        status = tokens_decode(&d->tokens, q, t->count, isa);
    if (status)
        return status;
    if (h->predictor == SZD_PREDICT_LORENZO)
        lorenzo_backward(q, t);
    else if (h->predictor == SZD_PREDICT_REGRESSION)
        regression_apply(h, t, coefficients, 1, q);
    lattice_begin(&d->l, h, isa);
    status = reconstruct_tile(d, &low, first, t->count, isa, q, s);
    if (status == SZD_OK && !tokens_finished(&d->tokens))
        status = SZD_BLOCK_CODES;
    return status ? status : decode_outliers(&o, t, strides, isa, h->element_bytes, d, s->out);
}

static int decode_body(const szd_header *h, const tile *t, uint32_t isa, reader *r, uint8_t *scratch, uint8_t *out, const uint64_t *strides)
{
    block_decoder *d = take(&scratch, sizeof *d);
    sink s = {runs_begin(t, strides), 0, out, h->element_bytes};
    unsigned mode = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    uint64_t array_strides[SZD_MAX_TILE_RANK];
    tile_strides(h, array_strides);
    switch (mode) {
    case MODE_LATTICE:
        if (h->kind == SZD_LOSSLESS)
            return SZD_BLOCK_MODE;
        return decode_lattice(h, t, first_element(t, array_strides), r, isa, d, scratch, strides, &s);
    case MODE_PLANES:
        return decode_planes(h, r, t->count, isa, d, &s);
    case MODE_CONSTANT:
        return decode_constant(r, h->element_bytes, t->count, d, &s);
    case MODE_RAW:
        return decode_raw(r, h->element_bytes, t->count, d, &s);
    default:
        return SZD_BLOCK_MODE;
    }
}

int szd_decode_block(const szd_header *h, const szd_options *options, uint64_t block, const uint8_t *payload,
                     size_t size, uint8_t *scratch, size_t scratch_size, uint8_t *out, const uint64_t *strides)
{
    tile t;
    if (!tile_of(h, block, &t) || scratch_size < szd_decode_scratch(h) || strides[t.rank - 1] != 1)
        return SZD_ARGUMENT;
    uint32_t isa = isa_resolve(options->isa);
    fp_environment saved = fp_enter();
    reader r = {payload, payload + size, false};
    int status = decode_body(h, &t, isa, &r, scratch, out, strides);
    fp_leave(saved);
    return status ? status : reader_left(&r) ? SZD_BLOCK_TRAILING : SZD_OK;
}

int szd_block_look(const szd_header *h, uint64_t block, const uint8_t *payload, size_t size, uint8_t *scratch,
                   size_t scratch_size, uint32_t *mode, uint32_t *coder, uint64_t *outliers)
{
    tile t;
    if (!tile_of(h, block, &t) || scratch_size < szd_decode_scratch(h))
        return SZD_ARGUMENT;
    block_decoder *d = take(&scratch, sizeof *d);
    reader r = {payload, payload + size, false};
    outlier_reader o = {0};
    low_bits low;
    int status = SZD_OK;
    *mode = read_u8(&r);
    *coder = *mode == MODE_RAW;
    if (*mode == MODE_LATTICE) {
        status = begin_lattice(h, &t, &r, d, &o, &low, take(&scratch, coefficient_bytes(h, &t)));
        *coder = d->tokens.symbols.coder;
    } else if (*mode == MODE_PLANES) {
        status = planes_begin(&d->planes, &r, t.count, h->element_bytes, dtype_of(h->dtype).is_float, false);
        *coder = d->planes.planes[h->element_bytes - 1].coder;
    }
    *outliers = o.count;
    return status ? status : r.failed ? SZD_BLOCK_SHORT : SZD_OK;
}

int szd_tile_of_block(const szd_header *h, uint64_t block, uint64_t *origin, uint64_t *extent)
{
    tile t;
    if (!tile_of(h, block, &t))
        return SZD_ARGUMENT;
    memcpy(origin, t.origin, t.rank * sizeof *origin);
    memcpy(extent, t.extent, t.rank * sizeof *extent);
    return SZD_OK;
}
