/* The block's part of the interpolation predictor up to its symbols (FORMAT.md, section 11). Nothing is trusted. */
#include "interp_decode.h"
#include "interp_low.h"
#include "interp_reader.h"

static bool is_double(const szd_header *h) { return h->kind == SZD_LINEAR64; }

size_t interp_decode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), bytes = is_double(h) ? 8 : 4;
    return sizeof(interp_reader) + interp_walk_scratch(h->tile, h->tile_rank, (unsigned)bytes) + 4 * n +
           2 * INTERP_GAP + CHUNK * 8 + (INTERP_BATCH + INTERP_SLACK) * 4 + 12 * 64;
}

static int read_weights(reader *r, const interp_stage *s, int16_t *weights)
{
    for (unsigned i = 0; i < interp_taps(s); i++) {
        uint64_t v = read_varint(r);
        if (v >= 2 * INTERP_MOST)
            return SZD_BLOCK_NUMBERS;
        weights[i] = (int16_t)unzigzag(v);
    }
    return r->failed ? SZD_BLOCK_SHORT : SZD_OK;
}

static int read_group(interp_reader *d, reader *r, stage_group *g, uint8_t *k)
{
    unsigned tag = read_u8(r);
    g->table = NULL;
    *k = 0;
    g->constant = INTERP_CENTRE;
    if (tag == GROUP_CONSTANT)
        g->constant = read_u8(r);
    if (tag == GROUP_CONSTANT || tag == GROUP_NEW_TABLE)
        *k = read_u8(r);
    if (*k > INTERP_MOST_LOW)
        return SZD_BLOCK_TABLE;
    if (tag == GROUP_NEW_TABLE) {
        if (d->table_count == INTERP_TABLES || !freqs_read(r, INTERP_CENTRE, d->tables + d->table_count))
            return SZD_BLOCK_TABLE;
        d->table_k[d->table_count] = *k;
        g->table = d->tables + d->table_count++;
    } else if (tag >= GROUP_TABLES) {
        if (tag - GROUP_TABLES >= d->table_count)
            return SZD_BLOCK_TABLE;
        *k = d->table_k[tag - GROUP_TABLES];
        g->table = d->tables + (tag - GROUP_TABLES);
    }
    return r->failed ? SZD_BLOCK_SHORT : SZD_OK;
}

static int read_head(interp_reader *d, reader *r, const interp_stage *s, stage_head *head)
{
    unsigned flags = read_u8(r);
    int status = flags > (interp_has_border(s) ? 63 : 31) ? SZD_BLOCK_NUMBERS : SZD_OK;
    head->groups = (flags & 15) + 1;
    interp_default_weights(s, head->weights[0]);
    if (status == SZD_OK && flags & 16)
        status = read_weights(r, s, head->weights[0]);
    memcpy(head->weights[1], head->weights[0], sizeof head->weights[1]);
    head->apart = flags & 32;
    if (status == SZD_OK && head->apart)
        status = read_weights(r, s, head->weights[1]);
    head->group[0].first = 0;
    for (unsigned g = 1; g < head->groups; g++) {
        head->group[g].first = read_u8(r);
        if (head->group[g].first <= head->group[g - 1].first || head->group[g].first >= INTERP_CLASSES)
            return r->failed ? SZD_BLOCK_SHORT : SZD_BLOCK_NUMBERS;
    }
    head->low_bits = false;
    memset(head->k, 0, sizeof head->k);
    for (unsigned g = 0; status == SZD_OK && g < head->groups; g++) {
        status = read_group(d, r, head->group + g, head->k + g);
        head->low_bits = head->low_bits || head->k[g];
    }
    return status;
}

static int read_zeros(interp_reader *d, reader *r)
{
    size_t n = (size_t)d->t->count, bytes = (n + 7) / 8;
    uint8_t *packed = d->symbols, *zeros = d->classes, *lists = d->walk.known; /* as long as they are not needed */
    int status = symbols_begin_unsorted(&d->mask_symbols, r, bytes, d->isa, lists);
    if (status)
        return status;
    if (!symbols_decode(&d->mask_symbols, packed, bytes, d->isa) || !symbols_finished(&d->mask_symbols) ||
        (n & 7 && packed[bytes - 1] >> (n & 7)))
        return SZD_BLOCK_CODES;
    interp_zeros_unpack(d->t, packed, zeros);
    d->first_is_zero = zeros[0];
    interp_sort(&d->plan, interp_unweave_bytes, 1, zeros, zeros, d->mask);
    return SZD_OK;
}

static int read_payloads(interp_reader *d, reader *r)
{
    d->escapes_left = read_varint(r);
    if (r->failed || d->escapes_left > d->t->count)
        return r->failed ? SZD_BLOCK_SHORT : SZD_BLOCK_ESCAPES;
    d->any_escapes = d->escapes_left > 0;
    int status = d->any_escapes ? begin_list(r, &d->escapes, &d->escape_order) : SZD_OK;
    if (status)
        return status;
    uint64_t bytes = read_varint(r);
    const uint8_t *low = read_bytes(r, bytes);
    unsigned lanes_log2 = read_u8(r);
    uint64_t size = read_varint(r);
    const uint8_t *payload = read_bytes(r, size);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    d->low = (bit_reader){low, low + bytes, 0, 0, false};
    return lanes_log2 <= RANS_LANES_LOG2 && rans_begin(&d->rans, lanes_log2, payload, size) ? SZD_OK : SZD_BLOCK_CODES;
}

static int read_factors(reader *r, interp_plan *plan)
{
    for (unsigned level = plan->levels; level-- > 0;) {
        plan->factor[level] = read_u8(r);
        if (plan->factor[level] < 1 || plan->factor[level] > INTERP_FACTOR)
            return r->failed ? SZD_BLOCK_SHORT : SZD_BLOCK_NUMBERS;
    }
    return SZD_OK;
}

int interp_begin(const szd_header *h, const tile *t, reader *r, uint32_t isa, uint8_t **scratch, interp_reader **out)
{
    interp_reader *d = *out = take(scratch, sizeof *d);
    size_t n = (size_t)t->count;
    d->h = h;
    d->t = t;
    d->isa = isa_resolve(isa);
    d->table_count = 0;
    d->unit = interp_unit(h, is_double(h) ? 8 : 4);
    interp_walk_begin(&d->walk, t, is_double(h), d->isa, scratch);
    d->mask = take(scratch, n);
    d->empty = take(scratch, n);
    d->classes = take(scratch, n + INTERP_GAP);
    d->q = take(scratch, (INTERP_BATCH + INTERP_SLACK) * 4);
    d->symbols = take(scratch, n + INTERP_GAP);
    d->values = take(scratch, CHUNK * 8);
    unsigned flags = read_u8(r), order = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (flags > 3 || !interp_order_valid(order))
        return SZD_BLOCK_NUMBERS;
    d->masked = flags & 1;
    interp_plan_make(t, order, &d->plan);
    int status = d->masked ? read_zeros(d, r) : SZD_OK;
    if (status)
        return status;
    uint64_t anchor = read_varint(r);
    if (anchor > UINT32_MAX)
        return SZD_BLOCK_NUMBERS;
    d->anchor = (int32_t)unzigzag(anchor);
    if (flags & 2)
        status = read_factors(r, &d->plan);
    for (unsigned i = 0; status == SZD_OK && i < d->plan.count; i++)
        status = read_head(d, r, d->plan.stages + i, d->heads + i);
    return status ? status : read_payloads(d, r);
}
