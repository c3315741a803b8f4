/* One block: gather the tile, quantise, predict, code (FORMAT.md, sections 3, 6 and 7). */
#include "fpenv.h"
#include "interp_encode.h"
#include "internal.h"

enum { CLEAR_SHARE = 4, CLEAR_SAVING = 64, SAMPLED_SHARE = 32, SAMPLED_RUN = 128, SAMPLED_RUNS = 8 };

size_t szd_block_bound(const szd_header *h)
{
    return (h->mixed ? 3 : 2) * (size_t)largest_tile(h) * h->element_bytes + 4096;
}

/* One after the other: the gathered values are behind both. */
static size_t interpolated_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), b = h->element_bytes;
    size_t lossy = interp_encode_scratch(h), lossless = n / SAMPLED_SHARE * b + planes_scratch(n) + 2 * 64;
    return n * b + (lossy > lossless ? lossy : lossless) + 2 * 64;
}

size_t szd_encode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), b = h->element_bytes;
    size_t coding = tokens_scratch(n) > planes_scratch(n) ? tokens_scratch(n) : planes_scratch(n);
    size_t q = (predicts_tiles(h) || h->mixed ? n : CHUNK) * 4, low = h->wide_bits ? n * 4 : 0;
    size_t values = n * b + q + low + n * 4 + n * b; /* gathered; q; low bits; outlier positions and elements */
    coding += mixing_scratch(h);
    size_t all = values + coding + sizeof(lattice) + n * 4 * 5 + 16 * 64;
    size_t sampling = h->predictor == SZD_PREDICT_REFERENCE ? reference_estimate_scratch() : estimate_scratch();
    if (h->predictor == SZD_PREDICT_REPEAT)
        sampling = repeat_estimate_scratch();
    if (h->predictor == SZD_PREDICT_INTERPOLATION)
        all = interpolated_scratch(h);
    return all > sampling ? all : sampling;
}

typedef struct outlier_list {
    size_t count;
    uint32_t *positions;
    uint8_t *elements;
} outlier_list;

static void write_outliers(const outlier_list *o, unsigned bytes, const szd_options *options, uint8_t *scratch,
                           writer *w)
{
    write_varint(w, o->count);
    if (!o->count)
        return;
    write_exp_golomb_list(gaps_of_positions(o->positions, o->count), o->count, w);
    planes_encode(o->elements, o->count, 0, bytes, true, false, options->coder, isa_resolve(options->isa), scratch, w);
}

static void write_coefficients(const szd_header *h, const tile *t, const int32_t *coefficients, uint32_t *scratch,
                               writer *w)
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

/* Part of a tile; an outlier's lattice integer is its neighbour's, which costs the predictors least. */
static void quantize_part(const lattice *l, const uint8_t *values, uint64_t first, size_t from, size_t n, int32_t *q,
                          uint32_t *low, outlier_list *o)
{
    unsigned bytes = dtype_of(l->dtype).element_bytes;
    uint8_t bad[CHUNK];
    values += from * bytes;
    if (!lattice_quantize(l, values, first + from, n, q, low, bad))
        return;
    for (size_t i = next_nonzero(bad, 0, n); i < n; i = next_nonzero(bad, i + 1, n)) {
        q[i] = i ? q[i - 1] : 0;
        memcpy(o->elements + o->count * bytes, values + i * bytes, bytes);
        o->positions[o->count++] = (uint32_t)(from + i);
    }
}

typedef struct lattice_job {
    const szd_header *h;
    const tile *t;
    const uint8_t *values, *reference; /* of the tile; reference may be NULL */
    uint64_t first;
    lattice *l;
    uint32_t *low;
    int32_t *q; /* of the whole tile, where a predictor or the mixing coder needs it */
    outlier_list outliers;
    token_encoder tokens;
} lattice_job;

/* Part of a tile less its reference; an outlier, which costs elsewhere, costs nothing here. `found`: how many outliers
 * there were before the part. */
static void subtract_reference(const lattice_job *j, size_t from, size_t n, size_t found, int32_t *q, uint32_t *low)
{
    if (!j->reference)
        return;
    unsigned bytes = dtype_of(j->h->reference_dtype).element_bytes;
    reference_subtract(j->l, j->h->reference_dtype, j->reference + from * bytes, j->first + from, n, q, low);
    for (; found < j->outliers.count; found++)
        q[j->outliers.positions[found] - from] = 0;
}

enum { SAMPLE_RUN = 32, SAMPLE_TRIES = 16 };

static bool all_equal(const int32_t *q, size_t n) { return memcmp(q, q + 1, (n - 1) * sizeof *q) == 0; }

static void quantize_run(const lattice_job *j, size_t at, size_t n, int32_t *q)
{
    uint8_t bad[SAMPLE_RUN];
    uint32_t low[SAMPLE_RUN];
    lattice_quantize(j->l, j->values + at * j->h->element_bytes, j->first + at, n, q, low, bad);
    subtract_reference(j, at, n, j->outliers.count, q, low);
}

/* Short runs spread over the tile; where all in them is the same, others. */
static size_t quantize_sample(const lattice_job *j, int32_t sample[TOKEN_SAMPLE])
{
    size_t n = (size_t)j->t->count, parts = (n < TOKEN_SAMPLE ? n : TOKEN_SAMPLE) / SAMPLE_RUN;
    if (!parts) {
        quantize_run(j, 0, n, sample);
        return n;
    }
    size_t count = parts * SAMPLE_RUN;
    for (size_t t = 0; t < SAMPLE_TRIES && (t == 0 || all_equal(sample, count)); t++)
        for (size_t k = 0; k < parts; k++) {
            size_t place = t ? (n - SAMPLE_RUN) / SAMPLE_TRIES * t / parts : 0;
            size_t at = parts > 1 ? (n - SAMPLE_RUN) * k / (parts - (t == 0)) + place : 0;
            quantize_run(j, at, SAMPLE_RUN, sample + k * SAMPLE_RUN);
        }
    return count;
}

static bool hopeless(const lattice_job *j) { return j->outliers.count > j->t->count / 2 && j->outliers.count > 16; }

/* Chunk by chunk from values to tokens, all in the first-level cache. False when most are outliers, or when values turn
 * out to be too many for a palette. */
static bool tokens_of_values(lattice_job *j, bool palette, uint8_t *scratch)
{
    int32_t *q = take(&scratch, CHUNK * 4), sample[TOKEN_SAMPLE];
    uint32_t spare[CHUNK];
    size_t n = (size_t)j->t->count;
    size_t count = quantize_sample(j, sample);
    tokens_begin_encoding(&j->tokens, sample, count, n, palette, scratch);
    j->outliers.count = 0;
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t part = n - done < CHUNK ? n - done : CHUNK;
        size_t found = j->outliers.count;
        uint32_t *low = j->low ? j->low + done : spare;
        quantize_part(j->l, j->values, j->first, done, part, q, low, &j->outliers);
        subtract_reference(j, done, part, found, q, low);
        if (hopeless(j) || !tokens_add(&j->tokens, q, part, j->l->isa))
            return false;
    }
    return true;
}

/* The whole tile's lattice integers, predicted if need be; the regression's coefficients are pointed to. */
static bool tokens_of_residuals(lattice_job *j, uint8_t *scratch, int32_t **coefficients)
{
    size_t n = (size_t)j->t->count;
    int32_t *q = j->q = take(&scratch, n * 4), sample[TOKEN_SAMPLE];
    uint32_t spare[CHUNK];
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t part = n - done < CHUNK ? n - done : CHUNK;
        size_t found = j->outliers.count;
        uint32_t *low = j->low ? j->low + done : spare;
        quantize_part(j->l, j->values, j->first, done, part, q + done, low, &j->outliers);
        subtract_reference(j, done, part, found, q + done, low);
        if (hopeless(j))
            return false;
    }
    if (j->h->predictor == SZD_PREDICT_LORENZO) {
        lorenzo_forward(q, j->t);
    } else if (j->h->predictor == SZD_PREDICT_REGRESSION) {
        *coefficients = take(&scratch, regression_coefficients(j->h, j->t) * 4);
        regression_fit(j->h, j->t, q, *coefficients);
        regression_apply(j->h, j->t, *coefficients, -1, q);
    }
    if (j->h->predictor == SZD_PREDICT_REPEAT) { /* its tokens come later */
        repeat_forward(q, n, j->h->lag);
        j->tokens.rest = aligned64(scratch);
        return true;
    }
    tokens_begin_encoding(&j->tokens, sample, tokens_sample(q, n, sample), n, false, scratch);
    for (size_t done = 0; done < n; done += CHUNK)
        tokens_add(&j->tokens, q + done, n - done < CHUNK ? n - done : CHUNK, j->l->isa);
    return true;
}

/* What a lag predicts, after what it does not reach: two lists of residuals. */
static void write_repeated(lattice_job *j, uint32_t coder, uint8_t *scratch, writer *w)
{
    size_t n = (size_t)j->t->count, head = reach_of(j->h, n);
    int32_t sample[TOKEN_SAMPLE];
    for (size_t from = 0, to = head; from < n; from = to, to = n) {
        size_t count = tokens_sample(j->q + from, to - from, sample);
        tokens_begin_encoding(&j->tokens, sample, count, to - from, false, scratch);
        j->tokens.plain = true;
        for (size_t done = from; done < to; done += CHUNK)
            tokens_add(&j->tokens, j->q + done, to - done < CHUNK ? to - done : CHUNK, j->l->isa);
        tokens_finish(&j->tokens, 0, coder, j->l->isa, w);
    }
}

/* The residuals once more by context mixing, after the tokens; the smaller of both stays. */
static void mix_if_smaller(lattice_job *j, writer start, writer *w)
{
    uint8_t *from = w->at;
    writer mixed = *w;
    write_u8(&mixed, FORM_MIXED);
    uint8_t *coded = mixed.at;
    mix_encode(j->q, (size_t)j->t->count, mixing_width(j->h, j->t), mixing_phase(j->h, j->t), j->tokens.rest, &mixed);
    if (mixed.failed || !mix_justified(j->t->count, (uint64_t)(mixed.at - coded)) || w->failed ||
        mixed.at - from >= from - start.at)
        return;
    memmove(start.at, from, (size_t)(mixed.at - from));
    w->at = start.at + (mixed.at - from);
}

/* The tile's part of the reference, NULL without one. */
static const uint8_t *reference_of(const szd_header *h, const szd_options *options, const tile *t)
{
    bool used = h->predictor == SZD_PREDICT_REFERENCE;
    return used ? options->reference + t->origin[0] * dtype_of(h->reference_dtype).element_bytes : NULL;
}

/* False where most are outliers. */
static bool encode_interpolated(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *values,
                                uint8_t *scratch, writer *w)
{
    size_t n = (size_t)t->count, bytes = h->element_bytes;
    interp_job *job = interp_run(h, options, t, values, &scratch);
    outlier_list o = {0, take(&scratch, n * 4), take(&scratch, n * bytes)};
    const uint8_t *refused = interp_refused(job);
    for (size_t i = refused ? next_nonzero(refused, 0, n) : n; i < n; i = next_nonzero(refused, i + 1, n)) {
        memcpy(o.elements + o.count * bytes, values + i * bytes, bytes);
        o.positions[o.count++] = (uint32_t)i;
    }
    if (o.count > n / 2 && o.count > 16)
        return false;
    write_u8(w, MODE_LATTICE);
    write_outliers(&o, h->element_bytes, options, scratch, w);
    interp_write(job, w);
    return !w->failed;
}

/* A small block of the commonest kind in its short form: its mode says what otherwise takes seven bytes. */
static void shorten(uint8_t *block, size_t n, writer *w)
{
    reader r = {block, w->at, false};
    freq_table table;
    if (w->failed || reader_left(&r) > MOST_SHORT || read_u8(&r) != MODE_LATTICE || read_u8(&r) != 0 ||
        read_u8(&r) != FORM_DIRECT)
        return;
    unsigned k = read_u8(&r);
    int64_t base = unzigzag(read_varint(&r));
    size_t escapes = read_u8(&r), low_size = numbers_bytes(n, k);
    const uint8_t *low = read_bytes(&r, low_size);
    unsigned coder = read_u8(&r);
    const uint8_t *from = r.at;
    if (escapes || coder != SZD_CODER_RANS || !freqs_read(&r, FIRST_TOP, &table))
        return;
    size_t table_size = (size_t)(r.at - from);
    unsigned lanes_log2 = read_u8(&r);
    uint64_t size = read_varint(&r);
    if (lanes_log2 || r.failed || size != reader_left(&r))
        return;
    writer short_form = {block, w->end, false};
    write_u8(&short_form, k + (base == SHORT_BASE ? MODE_SHORT : MODE_SHORT_BASED));
    if (base != SHORT_BASE)
        write_varint(&short_form, zigzag(base));
    memmove(write_room(&short_form, low_size), low, low_size);
    memmove(write_room(&short_form, table_size), from, table_size);
    memmove(write_room(&short_form, size), r.at, size);
    *w = short_form;
}

static bool encode_lattice(const szd_header *h, const szd_options *options, const tile *t, uint64_t first,
                           const uint8_t *values, uint8_t *scratch, writer *w)
{
    if (h->predictor == SZD_PREDICT_INTERPOLATION)
        return encode_interpolated(h, options, t, values, scratch, w);
    size_t n = (size_t)t->count;
    lattice_job j = {.h = h, .t = t, .values = values, .reference = reference_of(h, options, t), .first = first};
    int32_t *coefficients = NULL;
    j.l = take(&scratch, sizeof *j.l);
    j.low = h->wide_bits ? take(&scratch, n * 4) : NULL;
    j.outliers = (outlier_list){0, take(&scratch, n * 4), take(&scratch, n * h->element_bytes)};
    lattice_begin(j.l, h, options->isa);
    bool whole = predicts_tiles(h) || h->mixed;
    bool ok = whole ? tokens_of_residuals(&j, scratch, &coefficients) : tokens_of_values(&j, true, scratch);
    if (!ok && !whole && !hopeless(&j))
        ok = tokens_of_values(&j, false, scratch);
    if (!ok)
        return false;
    uint8_t *block = w->at;
    write_u8(w, MODE_LATTICE);
    write_outliers(&j.outliers, h->element_bytes, options, j.tokens.rest, w);
    uint8_t *low = j.low ? write_room(w, numbers_bytes(n, h->wide_bits)) : NULL;
    if (low)
        numbers_pack(j.low, n, h->wide_bits, j.l->isa, low);
    if (coefficients)
        write_coefficients(h, t, coefficients, (uint32_t *)(void *)j.tokens.rest, w);
    if (h->predictor == SZD_PREDICT_REPEAT) {
        write_repeated(&j, options->coder, j.tokens.rest, w);
        return !w->failed;
    }
    writer start = *w;
    tokens_finish(&j.tokens, options->fast ? 0 : row_width(h, t), options->coder, j.l->isa, w);
    if (h->mixed)
        mix_if_smaller(&j, start, w);
    if (may_be_short(h))
        shorten(block, n, w);
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

/* What a lag predicts as differences, after what it does not reach. */
static void write_repeated_planes(const szd_header *h, const szd_options *options, const uint8_t *values, size_t n,
                                  uint8_t *scratch, writer *w)
{
    size_t head = reach_of(h, n), bytes = h->element_bytes;
    bool is_float = dtype_of(h->dtype).is_float;
    uint32_t isa = isa_resolve(options->isa);
    uint8_t *differences = take(&scratch, (n - head) * bytes);
    planes_encode(values, head, 0, h->element_bytes, is_float, false, options->coder, isa, scratch, w);
    if (head == n)
        return;
    reference_differ(values + head * bytes, values, n - head, h->element_bytes, is_float, differences);
    planes_encode(differences, n - head, 0, h->element_bytes, false, false, options->coder, isa, scratch, w);
}

static void encode_lossless(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *values,
                            uint8_t *scratch, writer *w)
{
    writer start = *w;
    bool is_float = dtype_of(h->dtype).is_float;
    size_t n = (size_t)t->count, width = h->predictor == SZD_PREDICT_REPEAT ? 0 : row_width(h, t);
    const uint8_t *elements = values;
    bool patterns = is_float;
    if (h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_REFERENCE) {
        uint8_t *differences = take(&scratch, n * h->element_bytes);
        reference_differ(values, reference_of(h, options, t), n, h->element_bytes, is_float, differences);
        elements = differences;
        patterns = false;
    }
    write_u8(w, MODE_PLANES);
    if (h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_REPEAT)
        write_repeated_planes(h, options, values, n, scratch, w);
    else
        planes_encode(elements, n, width, h->element_bytes, patterns,
                      h->kind == SZD_LOSSLESS && h->predictor == SZD_PREDICT_LORENZO, options->coder,
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

/* Whether a sample of the elements, in runs spread over the block, takes losslessly so much that all of them would take
 * clearly more than `size`. Only a guess: for blocks that a lossless frame does not have. */
static bool clearly_smaller(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *values,
                            size_t size, uint8_t *scratch, writer w)
{
    size_t n = (size_t)t->count, bytes = h->element_bytes, count = n / SAMPLED_SHARE / SAMPLED_RUN;
    if ((!predicts_tiles(h) && n <= SZD_DEFAULT_TILE) || count < SAMPLED_RUNS)
        return false;
    uint8_t *sample = take(&scratch, count * SAMPLED_RUN * bytes), *from = w.at;
    for (size_t i = 0; i < count; i++)
        memcpy(sample + i * SAMPLED_RUN * bytes, values + i * (n / count) * bytes, SAMPLED_RUN * bytes);
    planes_encode(sample, count * SAMPLED_RUN, 0, h->element_bytes, true, false, options->coder,
                  isa_resolve(options->isa), scratch, &w);
    return !w.failed && (size_t)(w.at - from) * SAMPLED_SHARE > size + size / CLEAR_SHARE;
}

/* The lattice block if it is the smaller; the lossless one is tried unless it is proven not to be by far. Returns how
 * many bytes at least that choice saves. */
static int64_t encode_smallest(const szd_header *h, const szd_options *options, const tile *t, uint64_t first,
                               const uint8_t *values, uint8_t *scratch, writer *w)
{
    size_t n = (size_t)t->count, raw = n * h->element_bytes;
    size_t room = (h->mixed ? 2 : 1) * raw + 1024; /* both ways of coding side by side */
    writer lossy = {w->at, (size_t)(w->end - w->at) < room ? w->end : w->at + room, false};
    bool ok = h->kind != SZD_LOSSLESS && encode_lattice(h, options, t, first, values, scratch, &lossy);
    size_t lossy_size = ok ? (size_t)(lossy.at - w->at) : SIZE_MAX;
    if (ok && clearly_smaller(h, options, t, values, lossy_size, scratch, (writer){lossy.at, w->end, false})) {
        w->at = lossy.at;
        return (int64_t)(lossy_size / CLEAR_SHARE);
    }
    if (ok) {
        uint64_t floor = planes_floor(values, n, h->element_bytes, true, lossy_size + CLEAR_SAVING);
        if (floor >= lossy_size + CLEAR_SAVING) {
            w->at = lossy.at;
            return (int64_t)(floor - lossy_size);
        }
    }
    writer lossless = {ok ? lossy.at : w->at, w->end, false};
    uint8_t *from = lossless.at;
    encode_lossless(h, options, t, values, scratch, &lossless);
    size_t size = (size_t)(lossless.at - from);
    w->failed = lossless.failed;
    if (!lossless.failed && size < lossy_size) {
        memmove(w->at, from, size);
        w->at += size;
        return 0;
    }
    w->at += lossy_size;
    return (int64_t)(size - lossy_size);
}

/* Whether the tile's elements are side by side in the tensor. */
static bool lies_in_a_row(const szd_header *h, const tile *t)
{
    for (unsigned a = 1; a < t->rank; a++)
        if (t->extent[a] != h->dims[a])
            return false;
    return true;
}

int szd_encode_block(const szd_header *h, const szd_options *options, const uint8_t *data, uint64_t block,
                     uint8_t *scratch, size_t scratch_size, uint8_t *out, size_t capacity, size_t *size,
                     int64_t *saving)
{
    tile t;
    *size = 0;
    *saving = 0;
    if (!tile_of(h, block, &t) || scratch_size < szd_encode_scratch(h) || capacity < szd_block_bound(h))
        return SZD_ARGUMENT;
    if (h->predictor == SZD_PREDICT_REFERENCE && !options->reference)
        return SZD_REFERENCE;
    fp_environment saved = fp_enter();
    uint64_t strides[SZD_MAX_TILE_RANK], first;
    tile_strides(h, strides);
    first = first_element(&t, strides);
    const uint8_t *values = data + first * h->element_bytes;
    if (!lies_in_a_row(h, &t)) {
        uint8_t *gathered = take(&scratch, t.count * h->element_bytes);
        gather(values, &t, strides, h->element_bytes, gathered);
        values = gathered;
    }
    writer w = {out, out + capacity, false};
    if (is_constant(values, t.count, h->element_bytes)) {
        write_u8(&w, MODE_CONSTANT);
        write_elements(values, 1, h->element_bytes, &w);
    } else {
        *saving = encode_smallest(h, options, &t, first, values, scratch, &w);
    }
    fp_leave(saved);
    *size = (size_t)(w.at - out);
    return w.failed ? SZD_BUFFER_TOO_SMALL : SZD_OK;
}

int szd_lossless_floor(const szd_header *h, const uint8_t *data, uint64_t block, uint64_t enough, uint64_t *bytes)
{
    tile t;
    if (!tile_of(h, block, &t) || t.rank != 1)
        return SZD_ARGUMENT;
    *bytes = planes_floor(data + t.origin[0] * h->element_bytes, t.count, h->element_bytes, dtype_of(h->dtype).is_float,
                          enough);
    return SZD_OK;
}
