/* A tile by interpolation: stage by stage from values to residuals, then into the block (FORMAT.md, section 11). */
#include "interp_encode.h"
#include "interp.h"

enum { MANY_ZEROS = 16, LEAST_GROUPED = 512, MOST_K = 24, WIDE_MEAN = 16, FEW_OTHERS = 8 };

/* Why a value is stored. */
enum { NOT_FINITE = 1, TOO_FAR = 2 };

typedef struct stage_plan {
    int16_t weights[2][INTERP_TAPS]; /* the border's last */
    bool fitted[2];
} stage_plan;

/* Neighbouring classes with one table. */
typedef struct group {
    unsigned first, last; /* classes */
    unsigned k;
    uint64_t n, cost; /* in 1/65536 bit, its table included */
    unsigned tag;     /* as stored */
    unsigned constant;
    const freq_table *table;
    bool has_place[256]; /* of each symbol, in what it is coded by */
} group;

struct interp_job {
    const szd_header *h;
    const tile *t;
    const uint8_t *values;
    uint32_t isa, coder;
    double steps[3]; /* the level's step, its inverse, the largest error that the quick test lets pass */
    bool masked, factored;
    interp_walk walk;
    interp_plan plan;
    stage_plan stages[INTERP_STAGES];
    uint8_t *x;       /* the tile in the work type, finite */
    uint8_t *refused; /* of each element: its value is to be stored */
    int32_t *q;       /* residuals, stage after stage */
    uint8_t *classes;
    int32_t anchor;
    uint8_t *rest;
    /* while writing */
    uint32_t (*counts)[256];
    uint8_t *symbols, *low;
    uint32_t *escaped;
    size_t escapes, sorted, segments;
    unsigned tables;
    freq_table *table;
    unsigned table_k[INTERP_TABLES];
    rans_segment *segment;
    uint64_t payload_bits;
};

static bool is_double(const szd_header *h) { return h->kind == SZD_LINEAR64; }

size_t interp_encode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), bytes = is_double(h) ? 8 : 4;
    size_t tables = (INTERP_CLASSES + 1) * 256 * 4 + INTERP_TABLES * sizeof(freq_table) +
                    INTERP_STAGES * INTERP_GROUPS * sizeof(rans_segment);
    size_t coding = n + (INTERP_STAGES * INTERP_GROUPS + 1) * INTERP_GAP + 4 * n + 4 * n + 16 + tables + 2 * n + 1024 +
                    symbols_scratch(n / 8 + 1) + n / 8 + 1 + n;
    return sizeof(interp_job) + interp_walk_scratch(h->tile, h->tile_rank, (unsigned)bytes) + n * (bytes + 1 + 4 + 1) +
           interp_fit_scratch() + coding + 20 * 64;
}

/* Values that are not finite are those before them as far as prediction goes. Returns how many zeros there are. */
static size_t load_tile(interp_job *j)
{
    size_t n = (size_t)j->t->count, zeros = 0;
    double last = 0;
    j->walk.k->load(j->h->dtype, j->values, n, j->x);
    memset(j->refused, 0, n);
    if (!j->walk.k->survey(j->x, n, &zeros))
        return zeros;
    for (size_t i = 0; i < n; i++) {
        double v = j->walk.k->at(j->x, i);
        if (!(v - v == 0)) {
            j->walk.k->put(j->x, i, last);
            j->refused[i] = NOT_FINITE;
            zeros += last == 0;
            v = last;
        }
        last = v;
    }
    return zeros;
}

/* The exact test of what the quick one refused; where the value fails, the prediction stands for it. */
static void settle(interp_job *j, size_t element, double step, const uint8_t *p, int32_t *q, uint8_t *v)
{
    const szd_header *h = j->h;
    uint8_t stored[8];
    j->walk.k->store(h->dtype, v, 1, stored);
    double x = load_as_double(h->dtype, j->values + element * h->element_bytes), y = load_as_double(h->dtype, stored);
    if (j->refused[element] || (x == 0 ? y == 0 : within(x, y, h->eps)))
        return;
    j->refused[element] = TOO_FAR;
    *q = 0;
    j->walk.k->reconstruct(p, q, 1, step, v);
}

static void skip_zeros(interp_job *j, const uint8_t *x, size_t n, int32_t *q, uint8_t *v, uint8_t *classes)
{
    uint8_t zero[INTERP_SEGMENT];
    j->walk.k->find_zeros(x, n, zero);
    for (size_t i = 0; i < n; i++)
        if (zero[i]) {
            q[i] = 0;
            j->walk.k->put(v, i, 0);
            classes[i] = INTERP_SKIPPED;
        }
}

/* Up to INTERP_SEGMENT values of a row. */
static void code_segment(interp_job *j, const interp_row *row, size_t number, size_t from, size_t n,
                         const double *steps, int32_t *q, uint8_t *classes)
{
    uint64_t picked[INTERP_SEGMENT], predicted[INTERP_SEGMENT + 8];
    const interp_stage *s = &j->walk.s;
    const interp_kernels *k = j->walk.k;
    size_t spacing = s->spacing[INTERP_LAST], first = interp_first_of_row(s, number) + from * spacing;
    uint8_t *x = (uint8_t *)picked, *p = (uint8_t *)predicted, *v = interp_coming(&j->walk, number) + from * k->bytes;
    k->pick(j->x + first * k->bytes, spacing, n, x);
    k->predict(row, from, n, p);
    bool any = k->quantize(j->h->dtype, x, p, n, steps, q, v);
    if (j->masked)
        skip_zeros(j, x, n, q, v, classes);
    for (size_t i = 0; any && i < n; i++)
        if (!j->masked || classes[i] != INTERP_SKIPPED)
            settle(j, first + i * spacing, steps[0], p + i * k->bytes, q + i, v + i * k->bytes);
}

static void code_stage(interp_job *j, stage_plan *plan, int32_t *q, uint8_t *classes)
{
    const interp_stage *s = &j->walk.s;
    interp_row row, weighed;
    interp_default_weights(s, plan->weights[0]);
    plan->fitted[0] = interp_fit(&j->walk, j->x, j->steps[0], false, plan->weights[0], j->rest);
    memcpy(plan->weights[1], plan->weights[0], sizeof plan->weights[1]);
    plan->fitted[1] = interp_has_border(s) && interp_fit(&j->walk, j->x, j->steps[0], true, plan->weights[1], j->rest);
    interp_classes(&j->walk, j->steps[0], classes);
    for (size_t r = 0; r < s->rows; r++) {
        interp_row_at(&j->walk, r, &row);
        for (size_t from = 0, n; from < s->width; from += n) {
            size_t at = r * s->width + from;
            n = interp_part(s, from);
            interp_weigh(&row, plan->weights[interp_is_border(s, r, from)], &weighed);
            code_segment(j, &weighed, r, from, n, j->steps, q + at, classes + at);
        }
    }
}

/* The first value: a residual like the others, of prediction 0. */
static void code_anchor(interp_job *j)
{
    const interp_kernels *k = j->walk.k;
    uint8_t *known = interp_anchor(&j->walk);
    uint64_t zero = 0;
    int32_t q = 0;
    if (k->quantize(j->h->dtype, j->x, (const uint8_t *)&zero, 1, j->steps, &q, known))
        settle(j, 0, j->steps[0], (const uint8_t *)&zero, &q, known);
    if (j->masked && k->at(j->x, 0) == 0) {
        q = 0;
        k->put(known, 0, 0);
    }
    j->anchor = q;
    interp_begin_values(&j->walk);
}

static void set_step(interp_job *j, unsigned level)
{
    j->steps[0] = interp_step(&j->plan, &j->walk, level, j->h->step);
    j->steps[1] = 1 / j->steps[0];
}

/* From the finest level up each step is 4/5 of the one below, but not under half of the frame's (QoZ, Liu et al. 2022).
 * Where nearly all residuals are 0, errors of coarse values live on in all that they predict. */
static void refine_coarse_levels(interp_job *j)
{
    unsigned factor = INTERP_FACTOR;
    for (unsigned level = 0; level < j->plan.levels; level++) {
        j->plan.factor[level] = (uint8_t)(factor < INTERP_FACTOR / 2 ? INTERP_FACTOR / 2 : factor);
        factor = factor * 4 / 5;
    }
    j->factored = j->plan.levels > 1;
}

static bool nearly_all_zero(const int32_t *q, size_t n)
{
    size_t others = 0;
    for (size_t i = 0; i < n; i++)
        others += q[i] != 0;
    return others * FEW_OTHERS < n;
}

/* All stages; before the finest level it may start anew with smaller steps for the others. */
static void code_stages(interp_job *j)
{
    size_t done = 0, level_start = 0;
    set_step(j, j->plan.levels ? j->plan.levels - 1 : 0);
    code_anchor(j);
    for (unsigned i = 0; i < j->plan.count; i++) {
        const interp_stage *s = j->plan.stages + i;
        bool new_level = i == 0 || s->level != s[-1].level;
        if (new_level && s->level == 0 && !j->factored && done > LEAST_GROUPED &&
            nearly_all_zero(j->q + level_start, done - level_start)) {
            refine_coarse_levels(j);
            for (size_t k = 0; k < j->t->count; k++)
                j->refused[k] &= NOT_FINITE;
            code_stages(j);
            return;
        }
        level_start = new_level ? done : level_start;
        interp_begin_stage(&j->walk, s);
        set_step(j, s->level);
        code_stage(j, j->stages + i, j->q + done, j->classes + done);
        done += s->count;
        if (i + 1 < j->plan.count)
            interp_end_stage(&j->walk);
    }
}

interp_job *interp_run(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *values,
                       uint8_t **scratch)
{
    interp_job *j = take(scratch, sizeof *j);
    size_t n = (size_t)t->count, bytes = is_double(h) ? 8 : 4;
    j->h = h;
    j->t = t;
    j->values = values;
    j->isa = isa_resolve(options->isa);
    j->coder = options->coder;
    interp_walk_begin(&j->walk, t, is_double(h), j->isa, scratch);
    j->x = take(scratch, n * bytes);
    j->refused = take(scratch, n);
    j->q = take(scratch, n * 4);
    j->classes = take(scratch, n);
    j->rest = *scratch;
    j->steps[2] = is_double(h) ? h->eps : (double)float_below(h->eps);
    j->factored = false;
    j->masked = load_tile(j) >= MANY_ZEROS;
    interp_plan_make(t, INTERP_PLAIN_ORDER, &j->plan);
    code_stages(j);
    return j;
}

const uint8_t *interp_refused(const interp_job *j) { return j->refused; }

/* Raw low bits of a class: so many that the mean magnitude above them is small. */
static unsigned low_bits_for(uint64_t sum, uint64_t n)
{
    unsigned k = 0;
    while (k < MOST_K && sum >> k >= WIDE_MEAN * n)
        k++;
    return k;
}

static inline int32_t centred(int32_t q, unsigned k) { return q + (k ? 1 << (k - 1) : 0); }

static inline unsigned symbol_of(int32_t q, unsigned k)
{
    int64_t s = (int64_t)(centred(q, k) >> k) + INTERP_CENTRE;
    return s > 0 && s < 256 ? (unsigned)s : 0;
}

/* The order-0 entropy of a group, with a guess of its table. */
static uint64_t group_cost(const uint32_t counts[256], uint64_t n)
{
    uint64_t cost = 0, whole = n ? log2_q16((uint32_t)n) : 0;
    unsigned used = 0;
    for (unsigned s = 0; s < 256; s++)
        if (counts[s]) {
            cost += counts[s] * (whole - log2_q16(counts[s]));
            used++;
        }
    return cost + ((uint64_t)(used > 1 ? 20 + 5 * used : 16) << 16);
}

static void make_group(interp_job *j, unsigned c, uint64_t n, unsigned k, group *groups, unsigned *count)
{
    groups[*count] = (group){.first = c, .last = c, .k = k, .n = n};
    groups[*count].cost = group_cost(j->counts[*count], n);
    (*count)++;
}

/* Every class that occurs, or all as one group, and what occurs in it; false where one is wide enough for low bits. */
static bool count_narrow(interp_job *j, const int32_t *q, const uint8_t *classes, size_t n, bool single, group *groups,
                         unsigned *count)
{
    memset(j->counts, 0, (INTERP_CLASSES + 1) * sizeof *j->counts);
    for (size_t i = 0; i < n; i++) {
        uint32_t s = (uint32_t)q[i] + INTERP_CENTRE;
        j->counts[single ? classes[i] & INTERP_SKIPPED : classes[i]][s < 256 ? s : 0]++;
    }
    *count = 0;
    for (unsigned c = 0; c < INTERP_CLASSES; c++) {
        uint64_t sum = 0, all = 0;
        for (unsigned s = 0; s < 256; s++) {
            unsigned magnitude = s < INTERP_CENTRE ? INTERP_CENTRE - s : s - INTERP_CENTRE;
            all += j->counts[c][s];
            sum += (uint64_t)j->counts[c][s] * (s ? magnitude : 2 * INTERP_CENTRE);
        }
        if (!all)
            continue;
        if (low_bits_for(sum, all))
            return false;
        memmove(j->counts[*count], j->counts[c], sizeof *j->counts);
        make_group(j, c, all, 0, groups, count);
    }
    return true;
}

/* The same with low bits, as many for each class as suit it. */
static unsigned count_wide(interp_job *j, const int32_t *q, const uint8_t *classes, size_t n, bool single,
                           group *groups)
{
    uint64_t sums[INTERP_CLASSES + 1] = {0}, sizes[INTERP_CLASSES + 1] = {0};
    unsigned k[INTERP_CLASSES + 1] = {0}, count = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = single ? classes[i] & INTERP_SKIPPED : classes[i];
        sums[c] += q[i] < 0 ? -(uint32_t)q[i] : (uint32_t)q[i];
        sizes[c]++;
    }
    for (unsigned c = 0; c < INTERP_CLASSES; c++)
        k[c] = sizes[c] ? low_bits_for(sums[c], sizes[c]) : 0;
    memset(j->counts, 0, (INTERP_CLASSES + 1) * sizeof *j->counts);
    for (size_t i = 0; i < n; i++) {
        unsigned c = single ? classes[i] & INTERP_SKIPPED : classes[i];
        j->counts[c][symbol_of(q[i], k[c])]++;
    }
    for (unsigned c = 0; c < INTERP_CLASSES; c++)
        if (sizes[c]) {
            memmove(j->counts[count], j->counts[c], sizeof *j->counts);
            make_group(j, c, sizes[c], k[c], groups, &count);
        }
    return count;
}

static unsigned find_groups(interp_job *j, const int32_t *q, const uint8_t *classes, size_t n, bool single,
                            group *groups)
{
    unsigned count;
    return count_narrow(j, q, classes, n, single, groups, &count) ? count
                                                                  : count_wide(j, q, classes, n, single, groups);
}

static uint64_t merged_cost(const interp_job *j, const group *groups, unsigned g)
{
    uint32_t sum[256];
    for (unsigned s = 0; s < 256; s++)
        sum[s] = j->counts[g][s] + j->counts[g + 1][s];
    return group_cost(sum, groups[g].n + groups[g + 1].n);
}

static void merge(interp_job *j, group *groups, unsigned *count, unsigned g, uint64_t cost)
{
    for (unsigned s = 0; s < 256; s++)
        j->counts[g][s] += j->counts[g + 1][s];
    groups[g].last = groups[g + 1].last;
    groups[g].n += groups[g + 1].n;
    groups[g].cost = cost;
    memmove(groups + g + 1, groups + g + 2, (*count - g - 2) * sizeof *groups);
    memmove(j->counts + g + 1, j->counts + g + 2, (*count - g - 2) * sizeof *j->counts);
    (*count)--;
}

/* The merge of neighbours that saves most, as long as one saves, or there are too many. */
static unsigned merge_groups(interp_job *j, group *groups, unsigned count)
{
    for (;;) {
        int64_t most = INT64_MIN;
        unsigned best = 0;
        uint64_t best_cost = 0;
        for (unsigned g = 0; g + 1 < count; g++) {
            if (groups[g].k != groups[g + 1].k)
                continue;
            uint64_t cost = merged_cost(j, groups, g);
            int64_t saved = (int64_t)(groups[g].cost + groups[g + 1].cost - cost);
            if (saved > most) {
                most = saved;
                best = g;
                best_cost = cost;
            }
        }
        if (most == INT64_MIN || (most <= 0 && count <= INTERP_GROUPS))
            return count;
        merge(j, groups, &count, best, best_cost);
    }
}

/* Symbols too rare for a place in the table, which gives no symbol less than 1/4096, become escapes. */
static bool worth_a_place(uint32_t count, uint64_t n) { return (uint64_t)count * 8 > n / 2841; }

/* A table that is there already, where it costs less than one of its own. */
static void choose_table(interp_job *j, uint32_t counts[256], group *g)
{
    freq_table own;
    unsigned used = 0, first = 0;
    for (unsigned s = 1; s < 256; s++)
        if (counts[s] && !worth_a_place(counts[s], g->n)) {
            counts[0] += counts[s];
            counts[s] = 0;
        }
    for (unsigned s = 256; s-- > 0;)
        if (counts[s]) {
            used++;
            first = s;
        }
    g->constant = first;
    g->tag = first == INTERP_CENTRE && !g->k ? GROUP_ZERO : GROUP_CONSTANT;
    g->table = NULL;
    if (used <= 1)
        return;
    freqs_fit(counts, g->n, false, &own);
    uint64_t least = (freqs_cost_bits(counts, &own) + 16) << 16;
    g->tag = GROUP_NEW_TABLE;
    for (unsigned t = 0; t < j->tables; t++) {
        uint64_t cost = 0;
        bool fits = j->table_k[t] == g->k;
        for (unsigned s = 0; fits && s < 256; s++)
            if (counts[s]) {
                fits = j->table[t].f[s] > 0 && cost < least;
                cost += fits ? counts[s] * (uint64_t)((PROB_BITS << 16) - log2_q16(j->table[t].f[s])) : 0;
            }
        if (fits && cost < least) {
            least = cost;
            g->tag = t + GROUP_TABLES;
        }
    }
    if (g->tag == GROUP_NEW_TABLE) {
        j->table_k[j->tables] = g->k;
        j->table[j->tables++] = own;
    }
    g->table = j->table + (g->tag == GROUP_NEW_TABLE ? j->tables - 1 : g->tag - GROUP_TABLES);
    j->payload_bits += least >> 16;
}

static unsigned group_of_class(const group *groups, unsigned count, uint8_t of[INTERP_CLASSES])
{
    unsigned most_k = 0;
    memset(of, 0, INTERP_CLASSES);
    for (unsigned g = 0; g < count; g++) {
        memset(of + groups[g].first, (int)g, INTERP_CLASSES - groups[g].first);
        most_k = groups[g].k > most_k ? groups[g].k : most_k;
    }
    return most_k;
}

/* Up to a segment: symbols with a place in their group's table; the others are escapes. */
static void emit_values(interp_job *j, const int32_t *q, const uint8_t *of, size_t n, const group *groups,
                        unsigned most_k, bit_writer *low, uint8_t *symbols)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t s = (uint32_t)q[i] + INTERP_CENTRE;
        symbols[i] = (uint8_t)(s < 256 ? s : 0);
    }
    for (size_t i = 0; most_k && i < n; i++) {
        unsigned k = of[i] == INTERP_NO_GROUP ? 0 : groups[of[i]].k;
        if (!k)
            continue;
        symbols[i] = (uint8_t)symbol_of(q[i], k);
        put_bits(low, (uint32_t)centred(q[i], k) & ((1u << k) - 1), k);
    }
    for (size_t i = 0; i < n; i++)
        symbols[i] = of[i] == INTERP_NO_GROUP || groups[of[i]].has_place[symbols[i]] ? symbols[i] : 0;
    for (uint8_t *at = symbols; (at = memchr(at, 0, (size_t)(symbols + n - at))); at++) {
        const group *g = groups + of[at - symbols];
        j->escaped[j->escapes++] = (uint32_t)zigzag(centred(q[at - symbols], g->k) >> g->k);
    }
}

/* Symbols sorted by group; low bits and escapes in the values' order. */
static void emit_stage(interp_job *j, const int32_t *q, uint8_t *classes, size_t n, group *groups, unsigned count,
                       bit_writer *low)
{
    uint8_t *to[INTERP_GROUPS], of[INTERP_CLASSES], symbols[INTERP_SEGMENT];
    for (unsigned g = 0; g < count; g++) {
        to[g] = j->symbols + j->sorted;
        if (groups[g].table)
            j->segment[j->segments++] = (rans_segment){to[g], groups[g].n, SYMBOLS_AS_THEY_ARE, groups[g].table};
        j->sorted += groups[g].n + INTERP_GAP;
        for (unsigned s = 0; s < 256; s++)
            groups[g].has_place[s] = groups[g].table ? groups[g].table->f[s] > 0 : s == groups[g].constant;
    }
    unsigned most_k = group_of_class(groups, count, of);
    interp_groups_map(classes, n, of, j->isa, classes);
    for (size_t i = 0; i < n; i += INTERP_SEGMENT) {
        size_t part = n - i < INTERP_SEGMENT ? n - i : INTERP_SEGMENT;
        emit_values(j, q + i, classes + i, part, groups, most_k, low, symbols);
        interp_groups_split(classes + i, symbols, part, count, j->isa, to);
    }
}

static void write_stage(interp_job *j, const interp_stage *s, const stage_plan *plan, const group *groups,
                        unsigned count, unsigned tables_before, writer *w)
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
            freqs_write(j->table + tables_before++, INTERP_CENTRE, w);
    }
}

static void plan_and_emit(interp_job *j, bit_writer *low, writer *w)
{
    group groups[INTERP_CLASSES];
    size_t done = 0;
    for (unsigned i = 0; i < j->plan.count; i++) {
        const interp_stage *s = j->plan.stages + i;
        const int32_t *q = j->q + done;
        uint8_t *classes = j->classes + done;
        unsigned before = j->tables, count = find_groups(j, q, classes, s->count, s->count < LEAST_GROUPED, groups);
        count = merge_groups(j, groups, count);
        if (count > INTERP_GROUPS || count + j->tables > INTERP_TABLES)
            count = find_groups(j, q, classes, s->count, true, groups);
        if (count == 0) /* all of it zeros */
            groups[count++] = (group){.last = INTERP_CLASSES - 1, .constant = INTERP_CENTRE};
        for (unsigned g = 0; g < count && groups[g].n; g++)
            choose_table(j, j->counts[g], groups + g);
        emit_stage(j, q, classes, s->count, groups, count, low);
        write_stage(j, s, j->stages + i, groups, count, before, w);
        done += s->count;
    }
}

static size_t row_of(const tile *t)
{
    size_t row = (size_t)t->extent[t->rank - 1];
    return row < t->count ? row : 1;
}

/* Zeros, each told by whether it differs from the value a row before it. */
static void write_zeros(interp_job *j, writer *w)
{
    size_t n = (size_t)j->t->count, row = row_of(j->t), bytes = (n + 7) / 8;
    uint8_t *rest = j->rest, *mask = take(&rest, bytes), *zeros = take(&rest, n);
    j->walk.k->find_zeros(j->x, n, zeros);
    uint32_t counts[256];
    memset(mask, 0, bytes);
    for (size_t i = 0; i < n; i++) {
        uint8_t before = i >= row ? zeros[i - row] : 0;
        mask[i / 8] |= (uint8_t)((zeros[i] ^ before) << (i & 7));
    }
    histogram_u8(mask, bytes, j->isa, counts);
    symbols_encode(mask, bytes, counts, j->coder, j->isa, aligned64(rest), w);
}

static void take_buffers(interp_job *j)
{
    size_t n = (size_t)j->t->count;
    uint8_t *rest = j->rest;
    j->symbols = take(&rest, n + (INTERP_STAGES * INTERP_GROUPS + 1) * INTERP_GAP);
    j->escaped = take(&rest, 4 * n);
    j->low = take(&rest, 4 * n + 16);
    j->counts = take(&rest, (INTERP_CLASSES + 1) * sizeof *j->counts);
    j->table = take(&rest, INTERP_TABLES * sizeof *j->table);
    j->segment = take(&rest, INTERP_STAGES * INTERP_GROUPS * sizeof *j->segment);
    j->rest = rest;
    j->escapes = j->sorted = j->segments = j->tables = 0;
    j->payload_bits = 0;
}

void interp_write(interp_job *j, writer *w)
{
    write_u8(w, j->masked | j->factored << 1);
    write_u8(w, INTERP_PLAIN_ORDER);
    if (j->masked)
        write_zeros(j, w);
    write_varint(w, zigzag(j->anchor));
    for (unsigned level = j->plan.levels; j->factored && level-- > 0;)
        write_u8(w, j->plan.factor[level]);
    take_buffers(j);
    writer low = {j->low, j->low + 4 * j->t->count + 16, false};
    bit_writer bits = {&low, 0, 0};
    plan_and_emit(j, &bits, w);
    flush_bits(&bits);
    write_varint(w, j->escapes);
    if (j->escapes)
        write_exp_golomb_list(j->escaped, j->escapes, w);
    write_varint(w, (uint64_t)(low.at - j->low));
    write_bytes(w, j->low, (size_t)(low.at - j->low));
    unsigned lanes_log2 = rans_lanes_log2(j->payload_bits);
    size_t room = 2 * (size_t)j->t->count + 1024;
    write_u8(w, lanes_log2);
    rans_encode(j->segment, j->segments, lanes_log2, NULL, j->isa, j->rest, room, w);
}
