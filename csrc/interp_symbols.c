/* Residuals into the block: groups and tables stage by stage, then escapes, low bits and one stream of symbols
 * (FORMAT.md, section 11). */
#include "interp_encode.h"
#include "interp_job.h"
#include "interp_tables.h"
#include "symbols.h"

enum { NEXT_TO_NONE = 4, LANE_SHARE = 2000 };
enum { STAGE_BITS = 4, WEIGHT_BITS = 9 }; /* about */

typedef struct symbol_writer {
    const interp_job *j;
    interp_tables tables;
    uint8_t *symbols, *low_bytes;
    uint32_t *escaped;
    size_t escapes, sorted, segments;
    rans_segment *segment;
    writer low_to;
    bit_writer low;
    uint8_t least[INTERP_GROUPS], most[INTERP_GROUPS]; /* none of a group's symbols between these escapes */
    uint8_t *rest;
} symbol_writer;

size_t interp_symbols_scratch(size_t n)
{
    return n + (INTERP_STAGES * INTERP_GROUPS + 1) * INTERP_GAP + 4 * n + 4 * n + 16 + interp_tables_scratch() +
           INTERP_STAGES * INTERP_GROUPS * sizeof(rans_segment) + 2 * n + 1024 + symbols_scratch(n / 8 + 1) + 10 * 64;
}

static void group_of_class(const interp_class_group *groups, unsigned count, uint8_t of[INTERP_CLASSES],
                           uint8_t k[INTERP_GROUPS])
{
    memset(of, 0, INTERP_CLASSES);
    memset(k, 0, INTERP_GROUPS);
    for (unsigned g = 0; g < count; g++) {
        memset(of + groups[g].first, (int)g, INTERP_CLASSES - groups[g].first);
        k[g] = (uint8_t)groups[g].k;
    }
}

static bool has_place(const interp_class_group *g, unsigned symbol)
{
    return symbol && (g->table ? g->table->f[symbol] > 0 : symbol == g->constant);
}

/* From where to where around the middle all symbols have a place in what codes their group; nowhere: 255 to 0. */
static void find_places(const interp_class_group *g, uint8_t *least, uint8_t *most)
{
    unsigned from = INTERP_CENTRE, to = INTERP_CENTRE;
    while (has_place(g, from - 1))
        from--;
    while (to < 255 && has_place(g, to + 1))
        to++;
    bool any = has_place(g, INTERP_CENTRE);
    *least = any ? (uint8_t)from : 255;
    *most = any ? (uint8_t)to : 0;
}

/* Symbols without a place. */
static void list_escapes(symbol_writer *s, const int32_t *q, const uint8_t *of, size_t n,
                         const interp_class_group *groups, uint8_t *symbols)
{
    uint64_t outside[INTERP_SEGMENT / 64];
    interp_low_outside(symbols, of, n, s->least, s->most, s->j->isa, outside);
    for (size_t part = 0; part < (n + 63) / 64; part++)
        for (uint64_t left = outside[part]; left; left &= left - 1) {
            size_t i = 64 * part + (size_t)__builtin_ctzll(left);
            const interp_class_group *g = groups + of[i];
            if (has_place(g, symbols[i]))
                continue;
            symbols[i] = 0;
            s->escaped[s->escapes++] = (uint32_t)zigzag(interp_centred(q[i], g->k) >> g->k);
        }
}

/* Where each group's symbols go. Returns whether any escape. */
static bool place_groups(symbol_writer *s, const interp_class_group *groups, unsigned count, uint8_t **to)
{
    bool escapes = false;
    for (unsigned g = 0; g < count; g++) {
        to[g] = s->symbols + s->sorted;
        if (groups[g].table)
            s->segment[s->segments++] = (rans_segment){to[g], groups[g].n, SYMBOLS_AS_THEY_ARE, groups[g].table};
        s->sorted += groups[g].n + INTERP_GAP;
        escapes = escapes || groups[g].escapes;
    }
    return escapes;
}

/* Symbols sorted by group; low bits and escapes in the values' order. */
static void emit_stage(symbol_writer *s, const int32_t *q, uint8_t *classes, size_t n, const interp_class_group *groups,
                       unsigned count)
{
    uint8_t *to[INTERP_GROUPS], of[INTERP_CLASSES], k[INTERP_GROUPS], symbols[INTERP_SEGMENT];
    bool escapes = place_groups(s, groups, count, to);
    group_of_class(groups, count, of, k);
    for (unsigned g = 0; escapes && g < count; g++)
        find_places(groups + g, s->least + g, s->most + g);
    interp_groups_map(classes, n, of, s->j->isa, classes);
    for (size_t i = 0; i < n; i += INTERP_SEGMENT) {
        size_t part = n - i < INTERP_SEGMENT ? n - i : INTERP_SEGMENT;
        interp_low_split(q + i, classes + i, part, k, s->j->isa, symbols, &s->low);
        if (escapes)
            list_escapes(s, q + i, classes + i, part, groups, symbols);
        interp_groups_split(classes + i, symbols, part, count, s->j->isa, to);
    }
}

static void write_stage(const interp_stage *s, const stage_plan *plan, const interp_class_group *groups, unsigned count,
                        writer *w)
{
    write_u8(w, (count - 1) | plan->fitted[0] << 4 | plan->fitted[1] << 5);
    for (unsigned border = 0; border < 2; border++)
        for (unsigned i = 0; plan->fitted[border] && i < interp_taps(s); i++)
            write_varint(w, zigzag(plan->weights[border][i]));
    for (unsigned g = 1; g < count; g++)
        write_u8(w, groups[g].first);
    for (unsigned g = 0; g < count; g++) {
        write_u8(w, groups[g].tag);
        if (groups[g].tag == GROUP_CONSTANT)
            write_u8(w, groups[g].constant);
        if (groups[g].tag == GROUP_CONSTANT || groups[g].tag == GROUP_NEW_TABLE)
            write_u8(w, groups[g].k);
        if (groups[g].tag == GROUP_NEW_TABLE)
            freqs_write(groups[g].table, INTERP_CENTRE, w);
    }
}

static void write_stages(symbol_writer *t, writer *w)
{
    const interp_job *j = t->j;
    interp_class_group groups[INTERP_CLASSES];
    for (unsigned i = 0; i < j->plan.count; i++) {
        const interp_stage *s = j->plan.stages + i;
        const int32_t *q = j->q + s->before;
        uint8_t *classes = j->classes + s->before;
        unsigned count = interp_tables_choose(&t->tables, q, classes, s->count, groups);
        emit_stage(t, q, classes, s->count, groups, count);
        write_stage(s, j->stages + i, groups, count, w);
    }
}

/* Zeros, each told by whether it differs from the value a row before it. */
static void write_zeros(const interp_job *j, writer *w)
{
    size_t bytes = ((size_t)j->t->count + 7) / 8;
    uint8_t *scratch = aligned64(j->rest);
    symbol_counts c;
    symbols_count(&c, j->bits, bytes, 1, 0, j->isa, scratch);
    symbols_encode_counted(&c, j->coder, j->isa, scratch, w);
}

static void take_buffers(symbol_writer *s, uint8_t *scratch)
{
    size_t n = (size_t)s->j->t->count;
    s->symbols = take(&scratch, n + (INTERP_STAGES * INTERP_GROUPS + 1) * INTERP_GAP);
    s->escaped = take(&scratch, 4 * n);
    s->low_bytes = take(&scratch, 4 * n + 16);
    interp_tables_begin(&s->tables, s->j->isa, &scratch);
    s->segment = take(&scratch, INTERP_STAGES * INTERP_GROUPS * sizeof *s->segment);
    s->rest = scratch;
    s->low_to = (writer){s->low_bytes, s->low_bytes + 4 * n + 16, false};
    s->low = (bit_writer){&s->low_to, 0, 0};
}

/* Where most symbols take next to no bits the decoder's time is in their number: there lanes may take a hundredth. */
static unsigned choose_lanes(size_t n, uint64_t bits)
{
    unsigned log2 = rans_lanes_log2(bits);
    while (bits * NEXT_TO_NONE < n && log2 < RANS_LANES_LOG2 && bits >= (uint64_t)LANE_SHARE << (log2 + 1))
        log2++;
    return log2;
}

static void write_payloads(symbol_writer *s, writer *w)
{
    size_t n = (size_t)s->j->t->count;
    flush_bits(&s->low);
    write_varint(w, s->escapes);
    if (s->escapes)
        write_exp_golomb_list(s->escaped, s->escapes, w);
    write_varint(w, (uint64_t)(s->low_to.at - s->low_bytes));
    write_bytes(w, s->low_bytes, (size_t)(s->low_to.at - s->low_bytes));
    unsigned lanes_log2 = choose_lanes(n, s->tables.payload_bits);
    write_u8(w, lanes_log2);
    rans_encode(s->segment, s->segments, lanes_log2, NULL, s->j->isa, s->rest, 2 * n + 1024, w);
}

void interp_write(interp_job *j, writer *w)
{
    symbol_writer s;
    s.j = j;
    s.escapes = s.sorted = s.segments = 0;
    write_u8(w, j->z.zeros | j->factored << 1);
    write_u8(w, j->order);
    if (j->z.zeros)
        write_zeros(j, w);
    write_varint(w, zigzag(j->anchor));
    for (unsigned level = j->plan.levels; j->factored && level-- > 0;)
        write_u8(w, j->plan.factor[level]);
    take_buffers(&s, j->rest);
    write_stages(&s, w);
    write_payloads(&s, w);
}

interp_estimate interp_look(interp_job *j)
{
    interp_estimate e = {0, 0};
    interp_tables tables;
    uint8_t *scratch = j->rest;
    size_t bytes = ((size_t)j->t->count + 7) / 8;
    if (j->z.zeros) {
        uint32_t counts[256];
        histogram_u8(j->bits, bytes, j->isa, counts);
        e.payload += entropy_q16(counts, 0, 255, bytes);
    }
    e.payload += j->refusals * (8 * (uint64_t)j->h->element_bytes + PLACE_BITS) << 16;
    interp_tables_begin(&tables, j->isa, &scratch);
    for (unsigned i = 0; i < j->plan.count; i++) {
        const interp_stage *s = j->plan.stages + i;
        interp_tables_estimate(&tables, j->q + s->before, j->classes + s->before, s->count, &e);
        for (unsigned border = 0; border < 2; border++)
            e.tables += (j->stages[i].fitted[border] ? interp_taps(s) * WEIGHT_BITS : STAGE_BITS) << 16;
    }
    return e;
}
