/* A tile back from the block's part (FORMAT.md, section 11). Nothing is trusted. */
#include "interp_decode.h"
#include "interp.h"

enum { MOST_K = 24, BATCH = 4096 };

typedef struct stage_group {
    uint8_t first, k, constant;
    const freq_table *table; /* NULL: constant */
} stage_group;

typedef struct stage_head {
    int16_t weights[2][INTERP_TAPS]; /* the border's last */
    unsigned groups;
    bool apart;    /* the border has weights of its own */
    bool low_bits; /* of any group */
    stage_group group[INTERP_GROUPS];
} stage_head;

struct interp_reader {
    const szd_header *h;
    const tile *t;
    uint32_t isa;
    bool masked;
    interp_walk walk;
    interp_plan plan;
    stage_head heads[INTERP_STAGES];
    freq_table tables[INTERP_TABLES];
    uint8_t table_k[INTERP_TABLES];
    unsigned table_count;
    rans_decoder rans;
    symbol_decoder mask_symbols;
    int32_t anchor;
    bool any_escapes;
    uint64_t escapes_left;
    unsigned escape_order;
    bit_reader escapes, low;
    uint8_t *mask, *empty, *classes, *symbols,
        *values; /* the mask is in the order of the stages, without the first value */
    bool first_is_zero;
    double unit; /* predictions are multiples of it, 0: any value */
    /* of the stage at hand */
    double step;
    const uint8_t *from[INTERP_GROUPS];
    size_t made, have; /* residuals: all so far, and those that are left of q */
    int32_t *q;
};

static bool is_double(const szd_header *h) { return h->kind == SZD_LINEAR64; }

size_t interp_decode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), bytes = is_double(h) ? 8 : 4;
    return sizeof(interp_reader) + interp_walk_scratch(h->tile, h->tile_rank, (unsigned)bytes) + 4 * n +
           2 * INTERP_GAP + symbols_decode_scratch(n / 8 + 1) + CHUNK * 8 + (BATCH + INTERP_SLACK) * 4 + 12 * 64;
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

static int read_group(interp_reader *d, reader *r, stage_group *g)
{
    unsigned tag = read_u8(r);
    g->table = NULL;
    g->k = 0;
    g->constant = INTERP_CENTRE;
    if (tag == GROUP_CONSTANT)
        g->constant = read_u8(r);
    if (tag == GROUP_CONSTANT || tag == GROUP_NEW_TABLE)
        g->k = read_u8(r);
    if (g->k > MOST_K)
        return SZD_BLOCK_TABLE;
    if (tag == GROUP_NEW_TABLE) {
        if (d->table_count == INTERP_TABLES || !freqs_read(r, INTERP_CENTRE, d->tables + d->table_count))
            return SZD_BLOCK_TABLE;
        d->table_k[d->table_count] = g->k;
        g->table = d->tables + d->table_count++;
    } else if (tag >= GROUP_TABLES) {
        if (tag - GROUP_TABLES >= d->table_count)
            return SZD_BLOCK_TABLE;
        g->k = d->table_k[tag - GROUP_TABLES];
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
    for (unsigned g = 0; status == SZD_OK && g < head->groups; g++) {
        status = read_group(d, r, head->group + g);
        head->low_bits = head->low_bits || head->group[g].k;
    }
    return status;
}

static int read_zeros(interp_reader *d, reader *r, uint8_t *scratch)
{
    size_t n = (size_t)d->t->count, bytes = (n + 7) / 8;
    uint8_t *packed = d->symbols, *zeros = d->classes; /* as long as they are not needed */
    int status = symbols_begin(&d->mask_symbols, r, bytes, d->isa, scratch);
    if (status)
        return status;
    if (!symbols_decode(&d->mask_symbols, packed, bytes, d->isa) || !symbols_finished(&d->mask_symbols) ||
        (n & 7 && packed[bytes - 1] >> (n & 7)))
        return SZD_BLOCK_CODES;
    interp_zeros_unpack(d->t, packed, zeros);
    d->first_is_zero = zeros[0];
    interp_sort(&d->plan, interp_unweave_bytes, 1, zeros, d->mask);
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
    d->q = take(scratch, (BATCH + INTERP_SLACK) * 4);
    d->symbols = take(scratch, n + INTERP_GAP);
    d->values = take(scratch, CHUNK * 8);
    unsigned flags = read_u8(r), order = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (flags > 3 || !interp_order_valid(order))
        return SZD_BLOCK_NUMBERS;
    d->masked = flags & 1;
    interp_plan_make(t, order, &d->plan);
    int status = d->masked ? read_zeros(d, r, aligned64(*scratch)) : SZD_OK;
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

/* Rows of nothing but zeros. */
static const uint8_t *find_empty_rows(interp_reader *d)
{
    const interp_stage *s = &d->walk.s;
    const uint8_t *mask = d->mask + s->before;
    if (!d->masked)
        return NULL;
    for (size_t r = 0; r < s->rows; r++, mask += s->width) {
        d->empty[r] = mask[0] && memcmp(mask, mask + 1, s->width - 1) == 0;
        if (d->empty[r])
            memset(interp_coming(&d->walk, r), 0, s->width * d->walk.k->bytes);
    }
    return d->empty;
}

/* Zeros are no part of the stage's symbols. */
static void skip_zeros(interp_reader *d)
{
    const uint8_t *mask = d->mask + d->walk.s.before;
    for (size_t i = 0; i < d->walk.s.count; i++)
        d->classes[i] = mask[i] ? INTERP_SKIPPED : d->classes[i];
}

/* Classes become groups; each group's symbols are drawn. */
static bool draw_symbols(interp_reader *d, const stage_head *head)
{
    uint8_t group_of[INTERP_CLASSES];
    uint32_t counts[256];
    size_t n = d->walk.s.count, at = 0;
    for (unsigned g = 0; g < head->groups; g++)
        memset(group_of + head->group[g].first, (int)g, INTERP_CLASSES - head->group[g].first);
    interp_groups_map(d->classes, n, group_of, d->isa, d->classes);
    histogram_u8(d->classes, n, d->isa, counts);
    for (unsigned g = 0; g < head->groups; g++) {
        const stage_group *group = head->group + g;
        d->from[g] = d->symbols + at;
        if (!group->table) {
            memset(d->symbols + at, group->constant, counts[g]);
        } else if (counts[g]) {
            rans_use(&d->rans, group->table);
            if (!rans_decode(&d->rans, d->symbols + at, counts[g], d->isa))
                return false;
        }
        at += counts[g];
    }
    return true;
}

static int next_escape(interp_reader *d, int32_t *h)
{
    if (!d->escapes_left)
        return SZD_BLOCK_ESCAPES;
    d->escapes_left--;
    uint64_t u = get_exp_golomb(&d->escapes, d->escape_order);
    if (d->escapes.failed || u > UINT32_MAX)
        return SZD_BLOCK_ESCAPES;
    *h = (int32_t)unzigzag(u);
    return SZD_OK;
}

/* High parts beyond the symbols: those of symbol 0. */
static int use_escapes(interp_reader *d, const uint8_t *symbols, size_t n, int32_t *q)
{
    const uint8_t *at = symbols, *end = symbols + n;
    while ((at = memchr(at, 0, (size_t)(end - at)))) {
        int status = next_escape(d, q + (at - symbols));
        if (status)
            return status;
        at++;
    }
    return SZD_OK;
}

static int add_low_bits(interp_reader *d, const stage_head *head, const uint8_t *groups, size_t n, int32_t *q)
{
    for (size_t i = 0; i < n; i++) {
        unsigned k = groups[i] == INTERP_NO_GROUP ? 0 : head->group[groups[i]].k;
        if (k) {
            uint32_t v = (uint32_t)q[i] << k | (uint32_t)get_bits(&d->low, k);
            q[i] = (int32_t)(v - (1u << (k - 1)));
        }
    }
    return d->low.failed ? SZD_BLOCK_NUMBERS : SZD_OK;
}

/* The next residuals, as many as the buffer takes; those that are left move to its front. */
static int make_residuals(interp_reader *d, const stage_head *head, const int32_t *left)
{
    uint8_t symbols[BATCH];
    size_t rest = d->walk.s.count - d->made, room = BATCH - d->have, n = rest < room ? rest : room;
    const uint8_t *groups = d->classes + d->made;
    memmove(d->q, left, d->have * sizeof *left);
    int32_t *q = d->q + d->have;
    interp_groups_merge(groups, n, head->groups, d->isa, d->from, symbols);
    for (size_t i = 0; i < n; i++)
        q[i] = (int32_t)symbols[i] - INTERP_CENTRE;
    d->made += n;
    d->have += n;
    int status = use_escapes(d, symbols, n, q);
    return status == SZD_OK && head->low_bits ? add_low_bits(d, head, groups, n, q) : status;
}

/* At most a segment of a row. */
static void decode_segment(interp_reader *d, interp_pass *pass, const interp_row *row, size_t from, size_t n,
                           const int32_t *q)
{
    const interp_kernels *k = d->walk.k;
    const interp_stage *s = &d->walk.s;
    uint64_t predicted[INTERP_SEGMENT + 16];
    uint8_t *p = (uint8_t *)predicted, *v = interp_coming(&d->walk, row->row) + from * k->bytes;
    interp_pass_predict(pass, row, from, n, p);
    if (d->unit > 0)
        k->snap(p, n, d->unit);
    k->reconstruct(p, q, n, d->step, v);
    if (d->masked)
        k->put_zeros(d->mask + s->before + row->row * s->width + from, n, v);
}

static int decode_stage(interp_reader *d, stage_head *head)
{
    const interp_stage *s = &d->walk.s;
    const int32_t *q = d->q;
    interp_pass pass;
    d->step = interp_step(&d->plan, s->level, d->h->step, d->walk.k->bytes);
    d->made = d->have = 0;
    const uint8_t *empty = find_empty_rows(d);
    interp_classes(&d->walk, d->step, empty, d->classes);
    if (d->masked)
        skip_zeros(d);
    if (!draw_symbols(d, head))
        return SZD_BLOCK_CODES;
    interp_pass_begin(&pass, &d->walk, head->weights, head->apart);
    for (size_t r = 0; r < s->rows; r++) {
        const interp_row *row = empty && empty[r] ? NULL : interp_pass_row(&pass, r);
        for (size_t at = 0, n; at < s->width; at += n, q += n, d->have -= n) {
            n = s->width - at < INTERP_SEGMENT ? s->width - at : INTERP_SEGMENT;
            if (d->have < n) {
                int status = make_residuals(d, head, q);
                if (status)
                    return status;
                q = d->q;
            }
            if (row)
                decode_segment(d, &pass, row, at, n, q);
        }
    }
    return SZD_OK;
}

static void decode_anchor(interp_reader *d)
{
    uint64_t zero = 0;
    double step = interp_step(&d->plan, d->plan.levels ? d->plan.levels - 1 : 0, d->h->step, d->walk.k->bytes);
    d->walk.k->reconstruct((const uint8_t *)&zero, &d->anchor, 1, step, interp_anchor(&d->walk));
    if (d->masked && d->first_is_zero)
        d->walk.k->put(interp_anchor(&d->walk), 0, 0);
    interp_begin_values(&d->walk);
}

/* Whole rows of the finished grid to their places. */
static void hand_over(interp_reader *d, const size_t extent[INTERP_AXES], sink *out)
{
    const interp_kernels *k = d->walk.k;
    size_t rows = extent[0] * extent[1] * extent[2], n = extent[INTERP_LAST];
    bool as_it_is = d->h->element_bytes == k->bytes;
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *row = interp_values(&d->walk, extent, r);
        for (size_t at = 0; at < n && !as_it_is; at += CHUNK) {
            size_t part = n - at < CHUNK ? n - at : CHUNK;
            k->store(d->h->dtype, row + at * k->bytes, part, d->values);
            sink_write(out, d->values, part);
        }
        if (as_it_is)
            sink_write(out, row, n);
    }
}

int interp_decode(interp_reader *d, unsigned level, sink *out)
{
    size_t extent[INTERP_AXES] = {1, 1, 1, 1};
    int status = SZD_OK;
    unsigned i = 0;
    decode_anchor(d);
    for (; status == SZD_OK && i < d->plan.count && d->plan.stages[i].level >= level; i++) {
        interp_begin_stage(&d->walk, d->plan.stages + i);
        status = decode_stage(d, d->heads + i);
        if (status == SZD_OK)
            interp_end_stage(&d->walk);
        memcpy(extent, d->walk.s.known, sizeof extent);
        extent[d->walk.s.axis] += d->walk.s.extent[d->walk.s.axis];
    }
    if (status)
        return status;
    hand_over(d, extent, out);
    if (i < d->plan.count)
        return SZD_OK;
    bool escapes_done = !d->escapes_left && (!d->any_escapes || list_finished(&d->escapes));
    return escapes_done && list_finished(&d->low) && rans_finished(&d->rans) ? SZD_OK : SZD_BLOCK_CODES;
}
