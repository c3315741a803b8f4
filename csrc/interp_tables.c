/* Which neighbouring classes of a stage share a table, and which table. */
#include "interp_tables.h"

enum {
    LEAST_GROUPED = 512,
    WIDE_MEAN = 16,
    LOOKED_AT = 64,
    MANY = 4096,
    MOST_APART = 32,
    BATCH = 512,
    LISTED = 1 << 14
};
#define MISSING (1u << 31) /* a symbol's price where a table has no place for it */

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }
static unsigned most(unsigned a, unsigned b) { return a > b ? a : b; }

/* Raw low bits of a class: so many that the mean magnitude above them is small. */
static unsigned low_bits_for(uint64_t sum, uint64_t n)
{
    unsigned k = 0;
    while (k < INTERP_MOST_LOW && sum >> k >= WIDE_MEAN * n)
        k++;
    return k;
}

static unsigned count_used(const uint32_t counts[256], unsigned lo, unsigned hi)
{
    unsigned used = 0;
    for (unsigned s = lo; s <= hi; s++)
        used += counts[s] != 0;
    return used;
}

/* What a table of so many symbols takes, about, in 1/65536 bit. */
static uint64_t guess_table(unsigned used) { return (uint64_t)(used > 1 ? 100 + 5 * used : 16) << 16; }

/* The order-0 entropy of a group, with a guess of its table. */
static uint64_t group_cost(const uint32_t counts[256], unsigned lo, unsigned hi, uint64_t n)
{
    return entropy_q16(counts, lo, hi, n) + guess_table(count_used(counts, lo, hi));
}

/* Low bits for each class, by the mean magnitude of some of its residuals. */
static void choose_low_bits(const int32_t *q, const uint8_t *classes, size_t n, bool single,
                            uint8_t k[INTERP_CLASSES + 1])
{
    uint64_t sums[INTERP_CLASSES + 1] = {0}, sizes[INTERP_CLASSES + 1] = {0};
    size_t apart = n / MANY < MOST_APART ? n / MANY : MOST_APART, stride = (apart ? apart : 1) * LOOKED_AT;
    for (size_t start = 0; start < n; start += stride)
        for (size_t i = start; i < n && i < start + LOOKED_AT; i++) {
            unsigned c = single ? classes[i] & INTERP_SKIPPED : classes[i];
            sums[c] += q[i] < 0 ? -(uint32_t)q[i] : (uint32_t)q[i];
            sizes[c]++;
        }
    for (unsigned c = 0; c <= INTERP_CLASSES; c++)
        k[c] = c < INTERP_CLASSES && sizes[c] ? (uint8_t)low_bits_for(sums[c], sizes[c]) : 0;
}

/* The classes that occur; of many values all, since looking would take longer than what it spares. */
static unsigned list_classes(const uint8_t *classes, size_t n, bool single, uint8_t list[INTERP_CLASSES + 1])
{
    bool occurs[INTERP_CLASSES + 1];
    unsigned count = 0;
    memset(occurs, n > LISTED, sizeof occurs);
    for (size_t i = 0; n <= LISTED && i < n; i++)
        occurs[single ? classes[i] & INTERP_SKIPPED : classes[i]] = true;
    for (unsigned c = 0; c <= INTERP_CLASSES; c++)
        if (occurs[c])
            list[count++] = (uint8_t)c;
    return count;
}

/* What occurs in the classes of a list. Neighbours are often alike, and counting the same twice in a row is slow: every
 * other one is counted apart. */
static void count_symbols(interp_tables *t, const int32_t *q, const uint8_t *classes, size_t n, bool single,
                          const uint8_t k[INTERP_CLASSES + 1], const uint8_t *list, unsigned listed)
{
    const uint8_t mask = single ? INTERP_SKIPPED : 255;
    uint16_t cells[BATCH];
    uint32_t *even = *t->counts, *odd = even + (INTERP_CLASSES + 1) * 256;
    for (unsigned i = 0; i < listed; i++) {
        memset(even + 256 * list[i], 0, 256 * sizeof *even);
        memset(odd + 256 * list[i], 0, 256 * sizeof *odd);
    }
    for (size_t i = 0, part; i < n; i += part) {
        part = n - i < BATCH ? n - i : BATCH;
        interp_low_cells(q + i, classes + i, part, mask, k, t->isa, cells);
        for (size_t j = 0; j + 2 <= part; j += 2) {
            even[cells[j]]++;
            odd[cells[j + 1]]++;
        }
        if (part & 1)
            even[cells[part - 1]]++;
    }
}

/* Every class that occurs, or all as one group, and what occurs in it. */
static unsigned find_groups(interp_tables *t, const int32_t *q, const uint8_t *classes, size_t n, bool single,
                            interp_class_group *groups)
{
    uint8_t k[INTERP_CLASSES + 1], list[INTERP_CLASSES + 1];
    unsigned count = 0, listed = list_classes(classes, n, single, list);
    choose_low_bits(q, classes, n, single, k);
    count_symbols(t, q, classes, n, single, k, list, listed);
    for (unsigned i = 0; i < listed && list[i] < INTERP_CLASSES; i++) {
        const uint32_t *even = t->counts[list[i]], *odd = even + (INTERP_CLASSES + 1) * 256;
        uint64_t all = 0;
        for (unsigned s = 0; s < 256; s++) {
            t->counts[count][s] = even[s] + odd[s];
            all += t->counts[count][s];
        }
        if (!all)
            continue;
        interp_class_group *g = groups + count;
        *g = (interp_class_group){.first = list[i], .last = list[i], .k = k[list[i]], .hi = 255, .n = all};
        while (!t->counts[count][g->lo])
            g->lo++;
        while (!t->counts[count][g->hi])
            g->hi--;
        g->cost = group_cost(t->counts[count++], g->lo, g->hi, all);
    }
    return count;
}

/* What a group and the next one take together; as much as can be where they may not merge. */
static void price_with_next(const interp_tables *t, interp_class_group *groups, unsigned count, unsigned g)
{
    uint32_t sum[256];
    if (g + 1 >= count)
        return;
    const interp_class_group *next = groups + g + 1;
    groups[g].with_next = UINT64_MAX;
    if (groups[g].k != next->k)
        return;
    unsigned lo = least(groups[g].lo, next->lo), hi = most(groups[g].hi, next->hi);
    for (unsigned s = lo; s <= hi; s++)
        sum[s] = t->counts[g][s] + t->counts[g + 1][s];
    groups[g].with_next = group_cost(sum, lo, hi, groups[g].n + next->n);
}

static void merge(interp_tables *t, interp_class_group *groups, unsigned *count, unsigned g)
{
    for (unsigned s = 0; s < 256; s++)
        t->counts[g][s] += t->counts[g + 1][s];
    groups[g].lo = least(groups[g].lo, groups[g + 1].lo);
    groups[g].hi = most(groups[g].hi, groups[g + 1].hi);
    groups[g].last = groups[g + 1].last;
    groups[g].n += groups[g + 1].n;
    groups[g].cost = groups[g].with_next;
    memmove(groups + g + 1, groups + g + 2, (*count - g - 2) * sizeof *groups);
    memmove(t->counts + g + 1, t->counts + g + 2, (*count - g - 2) * sizeof *t->counts);
    (*count)--;
    price_with_next(t, groups, *count, g);
    if (g)
        price_with_next(t, groups, *count, g - 1);
}

/* The merge of neighbours that saves most, as long as one saves, or there are too many. */
static unsigned merge_groups(interp_tables *t, interp_class_group *groups, unsigned count)
{
    for (unsigned g = 0; g < count; g++)
        price_with_next(t, groups, count, g);
    for (;;) {
        int64_t saves = INT64_MIN;
        unsigned best = 0;
        for (unsigned g = 0; g + 1 < count; g++) {
            int64_t saved = (int64_t)(groups[g].cost + groups[g + 1].cost - groups[g].with_next);
            if (groups[g].with_next != UINT64_MAX && saved > saves) {
                saves = saved;
                best = g;
            }
        }
        if (saves == INT64_MIN || (saves <= 0 && count <= INTERP_GROUPS))
            return count;
        merge(t, groups, &count, best);
    }
}

/* Symbols too rare for a place in the table, which gives no symbol less than 1/4096, become escapes. */
static bool worth_a_place(uint32_t count, uint64_t n) { return (uint64_t)count * 8 > n / 2841; }

/* Rare symbols become escapes. Returns how many there are, and the last one. */
static unsigned drop_rare(uint32_t counts[256], uint64_t n, unsigned *last)
{
    unsigned used = 0;
    for (unsigned s = 1; s < 256; s++)
        if (counts[s] && !worth_a_place(counts[s], n)) {
            counts[0] += counts[s];
            counts[s] = 0;
        }
    *last = 0;
    for (unsigned s = 256; s-- > 0;)
        if (counts[s]) {
            used++;
            *last = s;
        }
    return used;
}

/* Of symbols lo ... hi in 1/65536 bit by a table's prices; `least` where it lacks a symbol. */
static uint64_t cost_with(const uint32_t counts[256], const uint32_t prices[256], unsigned lo, unsigned hi,
                          uint64_t least)
{
    uint64_t cost = 0;
    uint32_t missing = 0;
    for (unsigned s = lo; s <= hi; s++) {
        cost += counts[s] * (uint64_t)(prices[s] & ~MISSING);
        missing |= counts[s] ? prices[s] : 0;
    }
    return missing & MISSING ? least : cost;
}

/* What a symbol takes by a table, in 1/65536 bit. */
static void set_prices(const freq_table *table, uint32_t prices[256])
{
    for (unsigned s = 0; s < 256; s++)
        prices[s] = table->f[s] ? (PROB_BITS << 16) - log2_q16(table->f[s]) : MISSING;
}

/* A table that is there already, where it costs less than one of its own. */
static void choose_table(interp_tables *t, uint32_t counts[256], interp_class_group *g)
{
    freq_table *own = t->table + t->count;
    unsigned used = drop_rare(counts, g->n, &g->constant);
    g->escapes = counts[0] > 0;
    g->tag = g->constant == INTERP_CENTRE && !g->k ? GROUP_ZERO : GROUP_CONSTANT;
    g->table = NULL;
    if (used <= 1)
        return;
    uint64_t least = (freqs_fit(counts, g->n, false, own) + 16) << 16;
    g->tag = GROUP_NEW_TABLE;
    g->table = own;
    const unsigned lo = counts[0] ? 0 : g->lo;
    for (unsigned i = 0; i < t->count; i++) {
        uint64_t cost = t->k[i] == g->k ? cost_with(counts, t->prices[i], lo, g->hi, least) : least;
        if (cost < least) {
            least = cost;
            g->tag = i + GROUP_TABLES;
            g->table = t->table + i;
        }
    }
    if (g->tag == GROUP_NEW_TABLE) {
        set_prices(own, t->prices[t->count]);
        t->k[t->count++] = g->k;
    }
    t->payload_bits += least >> 16;
}

unsigned interp_tables_choose(interp_tables *t, const int32_t *q, const uint8_t *classes, size_t n,
                              interp_class_group *groups)
{
    unsigned count = find_groups(t, q, classes, n, n < LEAST_GROUPED, groups);
    count = merge_groups(t, groups, count);
    if (count > INTERP_GROUPS || count + t->count > INTERP_TABLES)
        count = find_groups(t, q, classes, n, true, groups);
    if (count == 0) /* all of it zeros */
        groups[count++] = (interp_class_group){.last = INTERP_CLASSES - 1, .constant = INTERP_CENTRE};
    for (unsigned g = 0; g < count && groups[g].n; g++)
        choose_table(t, t->counts[g], groups + g);
    return count;
}

/* Of a group's symbols and raw low bits, with what the entropy of a sample lacks (Miller and Madow), and what its table
 * was guessed to take. */
static void add_estimate(const interp_class_group *g, const uint32_t counts[256], interp_estimate *e)
{
    unsigned used = count_used(counts, g->lo, g->hi);
    e->tables += guess_table(used);
    e->payload += entropy_q16(counts, g->lo, g->hi, g->n) + g->n * ((uint64_t)g->k << 16);
    e->payload += (uint64_t)((used - 1) * 3 / 4) << 16;
}

void interp_tables_estimate(interp_tables *t, const int32_t *q, const uint8_t *classes, size_t n, interp_estimate *e)
{
    interp_class_group groups[INTERP_CLASSES];
    unsigned count = merge_groups(t, groups, find_groups(t, q, classes, n, n < LEAST_GROUPED, groups));
    for (unsigned g = 0; g < count; g++)
        add_estimate(groups + g, t->counts[g], e);
}

size_t interp_tables_scratch(void)
{
    return 2 * (INTERP_CLASSES + 1) * 256 * 4 + (INTERP_TABLES + 1) * (sizeof(freq_table) + 256 * 4) + 3 * 64;
}

void interp_tables_begin(interp_tables *t, uint32_t isa, uint8_t **scratch)
{
    t->isa = isa;
    t->counts = take(scratch, 2 * (INTERP_CLASSES + 1) * sizeof *t->counts);
    t->table = take(scratch, (INTERP_TABLES + 1) * sizeof *t->table);
    t->prices = take(scratch, (INTERP_TABLES + 1) * sizeof *t->prices);
    t->count = 0;
    t->payload_bits = 0;
}
