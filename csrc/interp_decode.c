/* A tile back from what the block's part holds (FORMAT.md, section 11). */
#include "interp_decode.h"
#include "interp_low.h"
#include "interp_reader.h"

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

/* Classes become groups; each group's symbols are drawn. */
static bool draw_symbols(interp_reader *d, const stage_head *head)
{
    uint8_t group_of[INTERP_CLASSES];
    uint32_t counts[INTERP_GROUPS];
    size_t n = d->walk.s.count, at = 0;
    for (unsigned g = 0; g < head->groups; g++)
        memset(group_of + head->group[g].first, (int)g, INTERP_CLASSES - head->group[g].first);
    interp_groups_map(d->classes, n, group_of, d->isa, d->classes);
    interp_groups_count(d->classes, n, head->groups, d->isa, counts);
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

/* The next residuals, as many as the buffer takes; those that are left move to its front. */
static int make_residuals(interp_reader *d, const stage_head *head, const int32_t *left)
{
    uint8_t symbols[INTERP_BATCH];
    size_t rest = d->walk.s.count - d->made, room = INTERP_BATCH - d->have, n = rest < room ? rest : room;
    const uint8_t *groups = d->classes + d->made;
    memmove(d->q, left, d->have * sizeof *left);
    int32_t *q = d->q + d->have;
    interp_groups_merge(groups, n, head->groups, d->isa, d->from, symbols);
    interp_low_widen(symbols, n, d->isa, q);
    d->made += n;
    d->have += n;
    int status = use_escapes(d, symbols, n, q);
    if (status || !head->low_bits)
        return status;
    interp_low_join(groups, n, head->k, d->isa, &d->low, q);
    return d->low.failed ? SZD_BLOCK_NUMBERS : SZD_OK;
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
        interp_groups_skip(d->mask + s->before, s->count, d->isa, d->classes); /* no part of the stage's symbols */
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

/* Values of the finished grid to their places. */
static void put_values(interp_reader *d, const uint8_t *from, size_t n, sink *out)
{
    const interp_kernels *k = d->walk.k;
    if (d->h->element_bytes == k->bytes) {
        sink_write(out, from, n);
        return;
    }
    for (size_t at = 0, part; at < n; at += part) {
        part = n - at < CHUNK ? n - at : CHUNK;
        k->store(d->h->dtype, from + at * k->bytes, part, d->values);
        sink_write(out, d->values, part);
    }
}

/* Values by turns, of which the even ones may be one more; at once to their place where they lie there as they are. */
static void put_woven(interp_reader *d, interp_result_row row, sink *out)
{
    const interp_kernels *k = d->walk.k;
    const size_t pairs = d->walk.s.width;
    uint64_t woven[INTERP_SEGMENT];
    for (size_t at = 0, part; at < pairs; at += part) {
        part = pairs - at < INTERP_SEGMENT / 2 ? pairs - at : INTERP_SEGMENT / 2;
        uint8_t *to = d->h->element_bytes == k->bytes ? sink_room(out, 2 * part) : NULL;
        if (!to || (uintptr_t)to % k->bytes)
            to = (uint8_t *)woven;
        k->weave(row.even + at * k->bytes, row.odd + at * k->bytes, part, to);
        put_values(d, to, 2 * part, out);
    }
    put_values(d, row.even + pairs * k->bytes, d->walk.s.known[INTERP_LAST] - pairs, out);
}

/* What the last stage completes, row after row. */
static void hand_over(interp_reader *d, sink *out)
{
    const interp_stage *s = &d->walk.s;
    size_t rows = s->known[0] * s->known[1] * s->known[2];
    if (s->axis != INTERP_LAST)
        rows = rows / s->known[s->axis] * (s->known[s->axis] + s->extent[s->axis]);
    for (size_t r = 0; r < rows; r++) {
        interp_result_row row = interp_result(&d->walk, r);
        if (row.odd)
            put_woven(d, row, out);
        else
            put_values(d, row.even, s->known[INTERP_LAST], out);
    }
}

int interp_decode(interp_reader *d, unsigned level, sink *out)
{
    unsigned stages = 0;
    while (stages < d->plan.count && d->plan.stages[stages].level >= level)
        stages++;
    decode_anchor(d);
    for (unsigned i = 0; i < stages; i++) {
        interp_begin_stage(&d->walk, d->plan.stages + i);
        int status = decode_stage(d, d->heads + i);
        if (status)
            return status;
        if (i + 1 < stages)
            interp_end_stage(&d->walk);
    }
    if (stages)
        hand_over(d, out);
    else
        put_values(d, interp_anchor(&d->walk), 1, out);
    if (stages < d->plan.count)
        return SZD_OK;
    bool escapes_done = !d->escapes_left && (!d->any_escapes || list_finished(&d->escapes));
    return escapes_done && list_finished(&d->low) && rans_finished(&d->rans) ? SZD_OK : SZD_BLOCK_CODES;
}
