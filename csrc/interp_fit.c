/* The weights of a stage's taps: least squares over a sample of its values, from what the decoder will know. */
#include "interp.h"

enum { FIT_PER_TAP = 1024, FIT_PRODUCTS = 3 << 18, FIT_PIECE = 128, FIT_LEAST = 256, FIT_TAP_BITS = 10 };

#define NEXT_TO_NOTHING 0x1p-7

typedef struct normal_equations {
    double a[INTERP_TAPS][INTERP_TAPS], b[INTERP_TAPS], energy;
    size_t seen;
} normal_equations;

/* terms: of values of one row after the other, as many as there is room for. */
typedef struct fit_work {
    normal_equations e;
    unsigned taps;
    bool zeros; /* those are given */
    size_t filled;
    double terms[INTERP_TAPS][FIT_PIECE], target[FIT_PIECE];
} fit_work;

size_t interp_fit_scratch(void) { return sizeof(fit_work) + 64; }

/* Terms to sums. The place behind the last one, up to a whole vector, adds 0s. */
static void sum_up(const interp_kernels *k, fit_work *f)
{
    size_t n = (f->filled + 7) / 8 * 8, spare = (n - f->filled) * sizeof(double);
    const double *terms[INTERP_TAPS + 1] = {f->target};
    double sums[INTERP_TAPS + 1];
    memset(f->target + f->filled, 0, spare);
    k->dots(f->target, terms, 1, n, sums);
    f->e.energy += sums[0];
    for (unsigned i = 0; i < f->taps; i++) {
        memset(f->terms[i] + f->filled, 0, spare);
        terms[i + 1] = f->terms[i];
        k->dots(f->terms[i], terms, i + 2, n, sums);
        f->e.b[i] += sums[0];
        for (unsigned m = 0; m <= i; m++)
            f->e.a[i][m] += sums[m + 1];
    }
    f->e.seen += f->filled;
    f->filled = 0;
}

static void keep(double *x, const uint8_t *kept, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[kept[i]];
}

/* Of the last n values and their terms only those that are not zeros; returns how many. */
static size_t leave_out_zeros(const interp_kernels *k, const uint8_t *x, size_t n, fit_work *f)
{
    uint8_t zeros[FIT_PIECE], kept[FIT_PIECE];
    size_t count = 0;
    k->find_zeros(x, n, zeros);
    for (size_t i = 0; i < n; i++) {
        kept[count] = (uint8_t)i;
        count += !zeros[i];
    }
    if (count == n)
        return n;
    keep(f->target + f->filled, kept, count);
    for (unsigned t = 0; t < f->taps; t++)
        keep(f->terms[t] + f->filled, kept, count);
    return count;
}

/* A piece of a row. Taps that are not there are 0. */
static void add_piece(interp_walk *w, const uint8_t *x, double inverse, interp_row *r, size_t from, size_t n,
                      fit_work *f)
{
    const interp_kernels *k = w->k;
    if (f->filled + n > FIT_PIECE)
        sum_up(k, f);
    /* The rows that a causal tap sees are not reconstructed yet: the original stands in. */
    r->coming = x + r->row * w->s.width * k->bytes;
    k->target(r, r->coming + from * k->bytes, from, n, inverse, f->target + f->filled);
    k->terms(r, NULL, from, n, inverse, f->terms[0] + f->filled);
    for (unsigned i = 1, at = 0; i < f->taps; i++) {
        bool there = at < r->at_edges->count && r->at_edges->taps[at].number == i;
        if (there)
            k->terms(r, r->at_edges->taps + at++, from, n, inverse, f->terms[i] + f->filled);
        else
            memset(f->terms[i] + f->filled, 0, n * sizeof(double));
    }
    f->filled += f->zeros ? leave_out_zeros(k, r->coming + from * k->bytes, n, f) : n;
}

/* A = L D L', in place; false where it is not positive. */
static bool factor(double a[INTERP_TAPS][INTERP_TAPS], unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < i; j++) {
            double sum = a[i][j];
            for (unsigned k = 0; k < j; k++)
                sum -= a[i][k] * a[k][k] * a[j][k];
            a[i][j] = sum / a[j][j];
        }
        double d = a[i][i];
        for (unsigned k = 0; k < i; k++)
            d -= a[i][k] * a[i][k] * a[k][k];
        if (!(d > 0))
            return false;
        a[i][i] = d;
    }
    return true;
}

/* L D L' x = b, in place. */
static void solve(double factors[INTERP_TAPS][INTERP_TAPS], unsigned n, double *x)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < i; k++)
            x[i] -= factors[i][k] * x[k];
    for (unsigned i = n; i-- > 0;) {
        x[i] /= factors[i][i];
        for (unsigned k = i + 1; k < n; k++)
            x[i] -= factors[k][i] * x[k];
    }
}

/* Without the taps that save next to nothing, each of which would cost time at every value; x is what is best for those
 * that are left. Without tap i the energy grows by x[i]^2 / inverse[i][i]; the others move along its column. */
static void drop_taps(double factors[INTERP_TAPS][INTERP_TAPS], unsigned n, double limit, double *x)
{
    double inverse[INTERP_TAPS][INTERP_TAPS] = {{0}};
    for (unsigned i = 0; i < n; i++) {
        inverse[i][i] = 1;
        solve(factors, n, inverse[i]);
    }
    for (unsigned left = n; left > 1; left--) {
        unsigned least = n;
        double growth = limit;
        for (unsigned i = 1; i < n; i++)
            if (x[i] != 0 && x[i] * x[i] < growth * inverse[i][i]) {
                growth = x[i] * x[i] / inverse[i][i];
                least = i;
            }
        if (least == n)
            return;
        double part = x[least] / inverse[least][least], column[INTERP_TAPS];
        memcpy(column, inverse[least], sizeof column);
        for (unsigned i = 0; i < n; i++) {
            x[i] -= part * column[i];
            for (unsigned k = 0; k < n; k++)
                inverse[i][k] -= column[i] * column[k] / column[least];
        }
        x[least] = 0;
    }
}

/* The best weights without taps that save less than NEXT_TO_NOTHING of what is left. False where there are none. */
static bool least_squares(normal_equations e, unsigned taps, double *best)
{
    double left = e.energy;
    if (!factor(e.a, taps))
        return false;
    memcpy(best, e.b, sizeof e.b);
    solve(e.a, taps, best);
    for (unsigned i = 0; i < taps; i++)
        left -= best[i] * e.b[i];
    drop_taps(e.a, taps, (left + (double)e.seen / 12) * NEXT_TO_NOTHING, best);
    return true;
}

/* The sum of squared residuals, in steps, that weights leave. */
static double energy_left(const normal_equations *e, const int16_t *weights, unsigned taps)
{
    double sum = e->energy;
    for (unsigned i = 0; i < taps; i++) {
        double w = weights[i] / (double)INTERP_UNIT;
        sum -= 2 * w * e->b[i];
        for (unsigned j = 0; j < taps; j++)
            sum += w * (weights[j] / (double)INTERP_UNIT) * (j <= i ? e->a[i][j] : e->a[j][i]);
    }
    return sum;
}

/* By the rate of a Gaussian source: half a bit for each factor of two in the variance, above that of the steps. */
static bool worth_it(const normal_equations *e, const int16_t *weights, const int16_t *plain, unsigned taps,
                     size_t count)
{
    double n = (double)e->seen, noise = n / 12;
    double ratio = (energy_left(e, plain, taps) + noise) / (energy_left(e, weights, taps) + noise);
    if (!(ratio > 1))
        return false;
    uint32_t q = ratio < 65535 ? (uint32_t)(ratio * 65536) : UINT32_MAX;
    return ((uint64_t)(log2_q16(q) - (16u << 16)) * count >> 17) > (uint64_t)taps * FIT_TAP_BITS;
}

/* Reconstructed neighbours of the same stage carry the steps' noise, uniform over one: a twelfth of its square. Every
 * term gets a little, lest weights of terms that say the same grow without limit. */
static void add_noise(normal_equations *e, const interp_stage *s, unsigned taps)
{
    unsigned causal_from = 1;
    for (unsigned a = 0; a < INTERP_AXES; a++)
        for (unsigned b = a; b < INTERP_AXES; b++)
            causal_from += a != s->axis && b != s->axis && s->extent[a] > 1 && s->extent[b] > 1;
    for (unsigned i = 0; i < taps; i++)
        e->a[i][i] += (double)e->seen * (i >= causal_from ? 1.0 / 12 : 1.0 / 1024) + e->a[i][i] * 0x1p-20;
}

static bool round_weights(const double *x, unsigned taps, int16_t *weights)
{
    for (unsigned i = 0; i < taps; i++) {
        double scaled = x[i] * INTERP_UNIT;
        if (!(scaled > -INTERP_MOST && scaled < INTERP_MOST))
            return false;
        weights[i] = (int16_t)(scaled + (scaled < 0 ? -0.5 : 0.5));
    }
    return true;
}

/* Pieces of rows spread over the stage, of its border or of the rest. */
static void add_pieces(interp_walk *w, const uint8_t *x, double inverse, bool border, size_t count, fit_work *f)
{
    const interp_stage *s = &w->s;
    bool last = s->axis == INTERP_LAST;
    size_t width = last && border ? 1 : s->width - (last && interp_has_border(s));
    if (width == 0)
        return;
    size_t length = width < FIT_PIECE ? width : FIT_PIECE, pieces = (count + length - 1) / length;
    size_t most = f->taps * FIT_PER_TAP, limit = FIT_PRODUCTS / (f->taps * f->taps);
    most = most < limit ? most : limit;
    most = border ? most / 8 : most;
    interp_row row;
    interp_choose(w, CHOOSE_ALL, NULL, &row);
    pieces = pieces > most / length ? most / length + 1 : pieces;
    for (size_t i = 0; i < pieces; i++) {
        size_t at = i * count / pieces, number = at / width, from = at % width;
        number = border && !last ? interp_border_row(s, number) : number;
        if (number >= s->rows)
            continue;
        interp_row_at(w, number, &row);
        if (!border && interp_is_border(s, &row))
            continue;
        from = border && last ? s->width - 1 : from + length > width ? width - length : from;
        add_piece(w, x, inverse, &row, from, length, f);
    }
    sum_up(w->k, f);
}

bool interp_fit(interp_walk *w, const uint8_t *x, double step, bool border, bool zeros, int16_t *weights,
                uint8_t *scratch)
{
    fit_work *f = take(&scratch, sizeof *f);
    const interp_stage *s = &w->s;
    unsigned taps = interp_taps(s);
    double best[INTERP_TAPS];
    int16_t before[INTERP_TAPS];
    size_t count = border ? s->count / s->extent[s->axis] : s->count;
    memcpy(before, weights, sizeof before);
    if (count < FIT_LEAST)
        return false;
    memset(&f->e, 0, sizeof f->e);
    f->taps = taps;
    f->zeros = zeros;
    f->filled = 0;
    add_pieces(w, x, 1 / step, border, count, f);
    add_noise(&f->e, s, taps);
    if (f->e.seen && least_squares(f->e, taps, best) && round_weights(best, taps, weights) &&
        worth_it(&f->e, weights, before, taps, count))
        return true;
    memcpy(weights, before, sizeof before);
    return false;
}
