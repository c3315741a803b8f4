/* One block back to values in their places (FORMAT.md, sections 3, 6 and 7). Nothing is trusted: every length is
 * checked before use. */
#include "fpenv.h"
#include "interp_decode.h"
#include "internal.h"

enum { MOST_LEVEL = 31 };

typedef struct block_decoder {
    lattice l;
    planes_decoder planes;
    token_decoder tokens;
    int32_t q[CHUNK];
    uint32_t low[CHUNK];
    uint8_t elements[CHUNK * 8];
} block_decoder;

static size_t coefficient_bytes(const szd_header *h, const tile *t)
{
    return h->predictor == SZD_PREDICT_REGRESSION ? regression_coefficients(h, t) * 4 : 0;
}

static size_t coding_scratch(const szd_header *h, size_t n)
{
    size_t symbols = symbols_decode_scratch(n), mixed = mixing_scratch(h);
    return symbols > mixed ? symbols : mixed;
}

/* A predicted tile's integers may have the place of what sorted its symbols, which lie first in their scratch, as do
 * the lists of two sparse streams; the mixing coder needs its own to the end. */
static size_t bytes_before_q(const szd_header *h, size_t n)
{
    size_t lists = 2 * symbols_unsorted_scratch(n);
    return h->mixed ? coding_scratch(h, n) : n > lists ? n : lists;
}

size_t szd_decode_scratch(const szd_header *h)
{
    if (h->predictor == SZD_PREDICT_INTERPOLATION)
        return sizeof(block_decoder) + interp_decode_scratch(h) + symbols_decode_scratch((size_t)largest_tile(h)) + 64;
    if (h->predictor == SZD_PREDICT_REPEAT)
        return sizeof(block_decoder) + reach_of(h, largest_tile(h)) * 4 + 6 * 64;
    size_t n = (size_t)largest_tile(h), predicted = predicts_tiles(h) ? n * 4 : 0;
    tile whole = {h->tile_rank, {0}, {1, 1, 1, 1}, n};
    for (unsigned a = 0; a < h->tile_rank; a++)
        whole.extent[a] = h->tile[a];
    size_t before = bytes_before_q(h, n), coding = coding_scratch(h, n);
    size_t shared = coding > before + predicted ? coding : before + predicted;
    return sizeof(block_decoder) + coefficient_bytes(h, &whole) + shared + 6 * 64;
}

static int decode_constant(reader *r, unsigned bytes, uint64_t n, block_decoder *d, sink *s)
{
    const uint8_t *p = read_bytes(r, bytes);
    if (!p)
        return SZD_BLOCK_SHORT;
    size_t most = n < CHUNK ? (size_t)n : CHUNK;
    for (size_t i = 0; i < most; i++)
        memcpy(d->elements + i * bytes, p, bytes);
    to_little_endian(d->elements, most, bytes);
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

static bool is_difference(const szd_header *h)
{
    return h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_REFERENCE;
}

/* Whether a block's elements in planes are patterns of floats. */
static bool are_patterns(const szd_header *h) { return dtype_of(h->dtype).is_float && !is_difference(h); }

/* reference: of the tile, may be NULL, and may be where the elements go. */
static int decode_planes(const szd_header *h, reader *r, uint64_t n, uint32_t isa, const uint8_t *reference,
                         block_decoder *d, uint8_t *scratch, sink *s)
{
    bool delta = h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_LORENZO, difference = is_difference(h);
    unsigned bytes = h->element_bytes;
    int status = planes_begin(&d->planes, r, n, bytes, are_patterns(h), delta, isa, scratch);
    if (status)
        return status;
    for (uint64_t done = 0; done < n;) {
        uint64_t part = n - done < CHUNK ? n - done : CHUNK;
        uint8_t *place = difference ? NULL : sink_room(s, part), *to = place ? place : d->elements;
        if (!planes_next(&d->planes, to, part, isa))
            return SZD_BLOCK_CODES;
        if (difference)
            reference_restore(reference + done * bytes, part, bytes, dtype_of(h->dtype).is_float, to);
        sink_write(s, to, part);
        done += part;
    }
    return planes_finished(&d->planes) ? SZD_OK : SZD_BLOCK_CODES;
}

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
    return status ? status : planes_begin(&d->planes, r, o->count, h->element_bytes, true, false, SZD_ISA_SCALAR, NULL);
}

/* `level`: of the grid that the output is. */
static int decode_outliers(outlier_reader *o, const tile *t, const uint64_t *strides, unsigned level, uint32_t isa,
                           unsigned bytes, block_decoder *d, uint8_t *out)
{
    uint64_t position = 0;
    for (uint64_t i = 0; i < o->count; i++) {
        uint64_t gap = get_exp_golomb(&o->gaps, o->order), at = i % CHUNK, rest = o->count - i;
        position = i ? position + 1 : 0;
        if (o->gaps.failed || gap >= t->count || (position += gap) >= t->count)
            return SZD_BLOCK_OUTLIERS;
        if (at == 0 && !planes_next(&d->planes, d->elements, rest < CHUNK ? rest : CHUNK, isa))
            return SZD_BLOCK_CODES;
        uint64_t offset;
        if (offset_in(t, strides, level, position, &offset))
            memcpy(out + offset * bytes, d->elements + at * bytes, bytes);
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

static void unpack_low_bits(packed_numbers *low, size_t n, uint32_t isa, uint32_t *out)
{
    packed_run run;
    for (size_t done = 0; low->k && done < n; done += run.n) {
        numbers_next(low, n - done, isa, &run);
        numbers_unpack(&run, out + done);
    }
}

/* Nothing is between the symbols of a direct stream and the values of a lattice in float32: chunk by chunk. */
static int decode_values(block_decoder *d, uint64_t n, sink *s)
{
    for (uint64_t done = 0; done < n;) {
        size_t part = n - done < CHUNK ? (size_t)(n - done) : CHUNK;
        uint8_t *place = sink_room(s, part), *to = place ? place : d->elements;
        int status = tokens_decode_values(&d->tokens, &d->l, part, to);
        if (status)
            return status;
        sink_write(s, to, part);
        done += part;
    }
    return SZD_OK;
}

/* The tile's lattice integers, chunk by chunk (`q` NULL) or predicted from a whole tile of residuals, to values in
 * their places. */
static int reconstruct_tile(block_decoder *d, const szd_header *h, packed_numbers *low, uint64_t first, uint64_t n,
                            uint32_t isa, const uint8_t *reference, const int32_t *q, sink *s)
{
    unsigned bytes = reference ? dtype_of(h->reference_dtype).element_bytes : 0;
    for (uint64_t done = 0; done < n;) {
        size_t part = n - done < CHUNK ? (size_t)(n - done) : CHUNK;
        const int32_t *from = q ? q + done : d->q;
        int status = q ? SZD_OK : tokens_decode(&d->tokens, d->q, part, isa);
        if (status)
            return status;
        unpack_low_bits(low, part, isa, d->low);
        if (reference)
            reference_add(&d->l, h->reference_dtype, reference + done * bytes, first + done, part, d->q, d->low);
        uint8_t *place = sink_room(s, part), *to = place ? place : d->elements;
        lattice_reconstruct(&d->l, from, low->k ? d->low : NULL, first + done, part, to);
        sink_write(s, to, part);
        done += part;
    }
    return SZD_OK;
}

static int begin_short(const szd_header *h, const tile *t, unsigned mode, reader *r, block_decoder *d)
{
    bool has_base = mode >= MODE_SHORT_BASED;
    if (!may_be_short(h))
        return SZD_BLOCK_MODE;
    return tokens_begin_short(&d->tokens, r, t->count, mode - (has_base ? MODE_SHORT_BASED : MODE_SHORT), has_base);
}

/* All sections up to the symbols, each ready to be drawn from. */
static int begin_lattice(const szd_header *h, const tile *t, unsigned mode, reader *r, block_decoder *d,
                         outlier_reader *o, packed_numbers *low, int32_t *coefficients, uint32_t isa, uint8_t *scratch)
{
    *low = (packed_numbers){0};
    if (mode != MODE_LATTICE)
        return begin_short(h, t, mode, r, d);
    int status = begin_outliers(h, r, t->count, d, o);
    if (status == SZD_OK)
        status = numbers_begin(low, r, (size_t)t->count, h->wide_bits);
    if (status == SZD_OK && h->predictor == SZD_PREDICT_REGRESSION)
        status = read_coefficients(h, t, r, coefficients);
    if (status)
        return status;
    token_rows rows = {h->mixed, mixing_width(h, t), mixing_phase(h, t)};
    return tokens_begin(&d->tokens, r, t->count, rows, isa, scratch);
}

static int decode_interpolated(const szd_header *h, const tile *t, reader *r, uint32_t isa, block_decoder *d,
                               uint8_t *scratch, const uint64_t *strides, sink *s)
{
    tile grid = coarse_tile(t, s->level);
    sink coarse = {runs_begin(&grid, strides), 0, s->out, s->bytes, 0};
    outlier_reader o = {0};
    interp_reader *interp;
    int status = begin_outliers(h, r, t->count, d, &o);
    if (status == SZD_OK)
        status = interp_begin(h, t, r, isa, &scratch, &interp);
    if (status == SZD_OK)
        status = interp_decode(interp, s->level, &coarse);
    return status ? status : decode_outliers(&o, t, strides, s->level, isa, h->element_bytes, d, s->out);
}

static int decode_lattice(const szd_header *h, const tile *t, unsigned mode, uint64_t first, reader *r, uint32_t isa,
                          const uint8_t *reference, block_decoder *d, uint8_t *scratch, const uint64_t *strides,
                          sink *s)
{
    outlier_reader o = {0};
    packed_numbers low;
    int32_t *coefficients = take(&scratch, coefficient_bytes(h, t));
    uint8_t *symbols = aligned64(scratch);
    int status = begin_lattice(h, t, mode, r, d, &o, &low, coefficients, isa, symbols);
    size_t before = bytes_before_q(h, (size_t)t->count);
    int32_t *q = predicts_tiles(h) ? (int32_t *)(void *)aligned64(symbols + before) : NULL;
    if (status == SZD_OK && q)
        status = tokens_decode(&d->tokens, q, t->count, isa);
    if (status)
        return status;
    if (h->predictor == SZD_PREDICT_LORENZO)
        lorenzo_backward(q, t);
    else if (h->predictor == SZD_PREDICT_REGRESSION)
        regression_apply(h, t, coefficients, 1, q);
    lattice_begin(&d->l, h, isa);
    bool straight = h->kind == SZD_LINEAR32 && !q && !reference && tokens_are_direct(&d->tokens);
    status =
        straight ? decode_values(d, t->count, s) : reconstruct_tile(d, h, &low, first, t->count, isa, reference, q, s);
    if (status == SZD_OK && !tokens_finished(&d->tokens))
        status = SZD_BLOCK_CODES;
    return status ? status : decode_outliers(&o, t, strides, 0, isa, h->element_bytes, d, s->out);
}

/* Blocks of the predictor repeat have no rows. */
static uint8_t *planes_room(const szd_header *h, uint8_t *scratch)
{
    return h->predictor == SZD_PREDICT_REPEAT ? NULL : aligned64(scratch);
}

static bool is_lattice(const szd_header *h, unsigned mode)
{
    bool is_short =
        mode - MODE_SHORT <= MAX_K || mode - MODE_SHORT_BASED <= MAX_K; /* unsigned: below them is beyond, too */
    return h->kind != SZD_LOSSLESS && (mode == MODE_LATTICE || is_short);
}

static const token_rows NO_ROWS = {false, 0, 0};

static int begin_repeated(const szd_header *h, const tile *t, reader *r, uint32_t isa, block_decoder *d,
                          outlier_reader *o)
{
    int status = begin_outliers(h, r, t->count, d, o);
    return status ? status : tokens_begin(&d->tokens, r, reach_of(h, t->count), NO_ROWS, isa, NULL);
}

/* Two lists of residuals: those that the lag does not reach, then the others, chunk by chunk, with as many integers at
 * hand as the lag is long. */
static int decode_repeated(const szd_header *h, const tile *t, uint64_t first, reader *r, uint32_t isa,
                           block_decoder *d, uint8_t *scratch, const uint64_t *strides, sink *s)
{
    packed_numbers low = {0};
    outlier_reader o = {0};
    size_t head = reach_of(h, t->count), oldest = 0;
    int32_t *ring = take(&scratch, head * 4);
    int status = begin_repeated(h, t, r, isa, d, &o);
    if (status == SZD_OK)
        status = tokens_decode(&d->tokens, ring, head, isa);
    if (status == SZD_OK && !tokens_finished(&d->tokens))
        status = SZD_BLOCK_CODES;
    if (status)
        return status;
    lattice_begin(&d->l, h, isa);
    reconstruct_tile(d, h, &low, first, head, isa, NULL, ring, s);
    if (head < t->count)
        status = tokens_begin(&d->tokens, r, (size_t)t->count - head, NO_ROWS, isa, NULL);
    for (uint64_t done = head; done < t->count && status == SZD_OK;) {
        size_t part = t->count - done < CHUNK ? (size_t)(t->count - done) : CHUNK;
        status = tokens_decode(&d->tokens, d->q, part, isa);
        if (status)
            break;
        repeat_backward(d->q, part, (uint32_t *)ring, head, &oldest);
        reconstruct_tile(d, h, &low, first + done, part, isa, NULL, d->q, s);
        done += part;
    }
    if (status == SZD_OK && !tokens_finished(&d->tokens))
        status = SZD_BLOCK_CODES;
    return status ? status : decode_outliers(&o, t, strides, 0, isa, h->element_bytes, d, s->out);
}

/* Of a lossless frame: patterns, then differences to what is decoded already. Tiles are rows: the output is one run. */
static int decode_repeated_planes(const szd_header *h, reader *r, uint64_t n, uint32_t isa, block_decoder *d, sink *s)
{
    unsigned bytes = h->element_bytes;
    bool is_float = dtype_of(h->dtype).is_float;
    size_t head = reach_of(h, n);
    int status = decode_planes(h, r, head, isa, NULL, d, NULL, s);
    if (status || head == n)
        return status;
    status = planes_begin(&d->planes, r, (size_t)n - head, bytes, false, false, isa, NULL);
    for (uint64_t done = head; done < n && status == SZD_OK;) {
        size_t part = n - done < CHUNK ? (size_t)(n - done) : CHUNK;
        if (!planes_next(&d->planes, d->elements, part, isa))
            return SZD_BLOCK_CODES;
        for (size_t i = 0, m; i < part; i += m, done += m) { /* no further than what there is already reaches */
            m = part - i < head ? part - i : head;
            reference_restore(s->out + (done - head) * bytes, m, bytes, is_float, d->elements + i * bytes);
            sink_write(s, d->elements + i * bytes, m);
        }
    }
    return status ? status : planes_finished(&d->planes) ? SZD_OK : SZD_BLOCK_CODES;
}

static int decode_body(const szd_header *h, const tile *t, unsigned level, uint32_t isa, reader *r,
                       const uint8_t *reference, uint8_t *scratch, uint8_t *out, const uint64_t *strides)
{
    block_decoder *d = take(&scratch, sizeof *d);
    sink s = {runs_begin(t, strides), 0, out, h->element_bytes, level};
    unsigned mode = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    uint64_t array_strides[SZD_MAX_TILE_RANK];
    tile_strides(h, array_strides);
    if (is_lattice(h, mode)) {
        if (h->predictor == SZD_PREDICT_INTERPOLATION)
            return mode ? SZD_BLOCK_MODE : decode_interpolated(h, t, r, isa, d, scratch, strides, &s);
        if (h->predictor == SZD_PREDICT_REPEAT)
            return mode ? SZD_BLOCK_MODE
                        : decode_repeated(h, t, first_element(t, array_strides), r, isa, d, scratch, strides, &s);
        return decode_lattice(h, t, mode, first_element(t, array_strides), r, isa, reference, d, scratch, strides, &s);
    }
    switch (mode) {
    case MODE_PLANES:
        if (h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_REPEAT)
            return decode_repeated_planes(h, r, t->count, isa, d, &s);
        return decode_planes(h, r, t->count, isa, reference, d, planes_room(h, scratch), &s);
    case MODE_CONSTANT: return decode_constant(r, h->element_bytes, t->count, d, &s);
    case MODE_RAW: return decode_raw(r, h->element_bytes, t->count, d, &s);
    default: return SZD_BLOCK_MODE;
    }
}

/* The tile's part of the reference, if there is to be one and it is the right one. */
static int check_reference(const szd_header *h, const szd_options *options, uint64_t block, const tile *t, uint32_t isa,
                           const uint8_t **reference)
{
    *reference = NULL;
    if (h->predictor != SZD_PREDICT_REFERENCE)
        return SZD_OK;
    *reference = options->reference;
    unsigned bytes = dtype_of(h->reference_dtype).element_bytes;
    bool same = *reference && digest(*reference, t->origin[0], (size_t)t->count, bytes, isa) ==
                                  load_u64(h->reference_digests + 8 * block);
    return same ? SZD_OK : SZD_REFERENCE;
}

int szd_decode_block(const szd_header *h, const szd_options *options, uint64_t block, const uint8_t *payload,
                     size_t size, uint8_t *scratch, size_t scratch_size, uint8_t *out, const uint64_t *strides)
{
    tile t;
    if (!tile_of(h, block, &t) || scratch_size < szd_decode_scratch(h) || strides[t.rank - 1] != 1 ||
        options->level > (h->predictor == SZD_PREDICT_INTERPOLATION ? MOST_LEVEL : 0))
        return SZD_ARGUMENT;
    uint32_t isa = isa_resolve(options->isa);
    const uint8_t *reference;
    int status = check_reference(h, options, block, &t, isa, &reference);
    if (status)
        return status;
    fp_environment saved = fp_enter();
    reader r = {payload, payload + size, false};
    status = decode_body(h, &t, options->level, isa, &r, reference, scratch, out, strides);
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
    packed_numbers low;
    int status = SZD_BLOCK_MODE;
    *mode = read_u8(&r);
    *coder = *mode == MODE_RAW;
    *outliers = 0;
    if (*mode == MODE_CONSTANT || *mode == MODE_RAW) {
        status = SZD_OK;
    } else if (is_lattice(h, *mode)) {
        int32_t *coefficients = take(&scratch, coefficient_bytes(h, &t));
        if (h->predictor == SZD_PREDICT_INTERPOLATION) {
            status = *mode ? SZD_BLOCK_MODE : begin_outliers(h, &r, t.count, d, &o);
            *coder = SZD_CODER_RANS;
            *outliers = o.count;
            return status;
        }
        if (h->predictor == SZD_PREDICT_REPEAT)
            status = *mode ? SZD_BLOCK_MODE : begin_repeated(h, &t, &r, isa_resolve(SZD_ISA_AUTO), d, &o);
        else
            status = begin_lattice(h, &t, *mode, &r, d, &o, &low, coefficients, isa_resolve(SZD_ISA_AUTO),
                                   aligned64(scratch));
        *coder = status ? 0 : d->tokens.form == FORM_MIXED ? SZD_CODER_MIXING : d->tokens.symbols.coder;
    } else if (*mode == MODE_PLANES) {
        bool parted = h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_REPEAT;
        status = planes_begin(&d->planes, &r, parted ? reach_of(h, t.count) : t.count, h->element_bytes,
                              are_patterns(h), false, isa_resolve(SZD_ISA_AUTO), planes_room(h, scratch));
        *coder = status ? 0 : d->planes.planes[h->element_bytes - 1].coder;
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
