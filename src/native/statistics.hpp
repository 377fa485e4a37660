// Statistics of the combined outputs of sets of models, row by row.
//
// The mean of n logits z has exponentials exp(z1/n) exp(z2/n) … exp(zn/n): one table of exponentials
// a model and size, and after that products only. Sets come in lexicographic order, so that sets
// which begin alike share the product of their beginning. Of a row of products three numbers are
// kept: the largest, the second, and the sum of all but the largest. That sum is formed without the
// largest in it, so that certainties of 0.999999 and 0.999999999 stay apart in single precision.
//
// Means of probabilities have the same shape with sums for products, in double precision.
//
// Nothing here decides: results carry known rounding errors, and what they leave open is computed
// again by the reference (see selection/statistics.py).
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels.hpp"
#include "lanes.hpp"

namespace committee::COMMITTEE_ISA {

// 1 if the predicted class is the label's, 0 if not, 2 if rounding leaves that open.
constexpr uint8_t wrong = 0, right = 1, unsure = 2;

template <class Real>
struct TopTwo {
    Real first, second, rest;
};

// How the rows of two sets of models become the row of both.
struct Product {
    typedef float Real;
    template <class T>
    static T apply(const T &a, const T &b) { return a * b; }
};

struct Sum {
    typedef double Real;
    template <class T>
    static T apply(const T &a, const T &b) { return a + b; }
};

// Lanes of a running (largest, second, sum of all but the largest).
template <class Real>
struct Running {
    typedef Lanes<Real> L;
    typedef typename L::Vector Vector;
    Vector first{}, second{}, rest{};

    void add(const Vector &x) {
        const Vector loser = L::smaller(first, x);
        first = L::larger(first, x);
        second = L::larger(second, loser);
        rest += loser;
    }
    void merge(const Running &other) {
        const Vector loser = L::smaller(first, other.first);
        first = L::larger(first, other.first);
        second = L::larger(L::larger(second, other.second), loser);
        rest += other.rest + loser;
    }
    TopTwo<Real> folded() const {
        alignas(64) Real a[L::count], b[L::count], c[L::count];
        L::store(a, first);
        L::store(b, second);
        L::store(c, rest);
        for (int half = L::count / 2; half; half /= 2)
            for (int i = 0; i < half; ++i) {
                const Real loser = std::min(a[i], a[i + half]);
                a[i] = std::max(a[i], a[i + half]);
                b[i] = std::max(std::max(b[i], b[i + half]), loser);
                c[i] += c[i + half] + loser;
            }
        return {a[0], b[0], c[0]};
    }
};

// Rows are padded with what adds nothing, to two vectors of single precision.
inline int64_t padded(int64_t classes) {
    constexpr int64_t step = 2 * Lanes<float>::count;
    return (classes + step - 1) / step * step;
}

template <class Op>
TopTwo<typename Op::Real> top_two(const typename Op::Real *a, const typename Op::Real *b,
                                  int64_t width) {
    typedef typename Op::Real Real;
    typedef Lanes<Real> L;
    Running<Real> even, odd;
    for (int64_t c = 0; c < width; c += 2 * L::count) {
        even.add(Op::apply(L::load(a + c), L::load(b + c)));
        odd.add(Op::apply(L::load(a + c + L::count), L::load(b + c + L::count)));
    }
    even.merge(odd);
    return even.folded();
}

template <class Op>
void combine(typename Op::Real *to, const typename Op::Real *a, const typename Op::Real *b,
             int64_t width) {
    typedef Lanes<typename Op::Real> L;
    for (int64_t c = 0; c < width; c += L::count)
        L::store(to + c, Op::apply(L::load(a + c), L::load(b + c)));
}

constexpr double log2e = 1.44269504088896340735992468100;
constexpr double ln2 = 0.693147180559945309417232121458;
// Adding this number and taking it away rounds to a whole number.
constexpr double rounder = 6755399441055744.0;

// 2 to the power of numbers in [-1/2, 1/2], by their Taylor series: 8 terms leave a relative error
// of 5e-9, 16 of 1e-19.
template <int terms, class Vector>
Vector power_of_two(Vector x) {
    double coefficient[terms] = {1};
    for (int k = 1; k < terms; ++k) coefficient[k] = coefficient[k - 1] * ln2 / k;
    typedef decltype(x[0] + x[0]) Real;
    Vector sum = Vector{} + Real(coefficient[terms - 1]);
    for (int k = terms - 2; k >= 0; --k) sum = sum * x + Real(coefficient[k]);
    return sum;
}

// As many doubles as a vector holds, from numbers of either precision.
inline Lanes<double>::Vector doubles(const float *from) {
    typedef float Half __attribute__((vector_size(vector_bytes / 2)));
    Half half;
    std::memcpy(&half, from, sizeof half);
    return __builtin_convertvector(half, Lanes<double>::Vector);
}
inline Lanes<double>::Vector doubles(const double *from) { return Lanes<double>::load(from); }

// A row copied to where whole vectors can be read, padded with its first number.
template <class In>
const In *whole_vectors(std::vector<In> &room, const In *z, int64_t classes) {
    const size_t width = size_t(padded(classes));
    room.resize(width);
    std::copy(z, z + classes, room.begin());
    std::fill(room.begin() + classes, room.end(), z[0]);
    return room.data();
}

template <class In>
std::pair<In, In> extent(const In *z, int64_t width) {
    typedef Lanes<In> L;
    typename L::Vector most = L::load(z), least = most;
    for (int64_t c = L::count; c < width; c += L::count) {
        most = L::larger(most, L::load(z + c));
        least = L::smaller(least, L::load(z + c));
    }
    In high = most[0], low = least[0];
    for (int i = 1; i < L::count; ++i) {
        high = std::max(high, In(most[i]));
        low = std::min(low, In(least[i]));
    }
    return {low, high};
}

// Fill `to` with exp(z / n) scaled by a power of two so that the largest is about 1; `z` is padded.
// Returns the largest absolute value of z.
template <class In>
double exponentials(float *to, const In *z, int64_t classes, int64_t width, double n) {
    typedef Lanes<double> D;
    typedef float Half __attribute__((vector_size(vector_bytes / 2)));
    typedef int32_t HalfInt __attribute__((vector_size(vector_bytes / 2)));
    const auto [low, high] = extent(z, width);
    const double scale = log2e / n;
    const double top = (double(high) * scale + rounder) - rounder;
    for (int64_t c = 0; c < width; c += D::count) {
        const D::Vector t = doubles(z + c) * scale;
        const D::Vector whole = (t + rounder) - rounder;
        const Half fraction = __builtin_convertvector(t - whole, Half);
        // Exponents below -126 give nothing: denormals are slow, and too small to matter.
        const D::Vector exponent = D::larger(whole - top, D::Vector{} - 127);
        const HalfInt bits = (__builtin_convertvector(exponent, HalfInt) + 127) << 23;
        const Half value = power_of_two<8>(fraction) * (Half)bits;
        std::memcpy(to + c, &value, sizeof value);
    }
    std::fill(to + classes, to + width, 0.0f);
    return std::max(std::abs(double(low)), std::abs(double(high)));
}

#if defined(__AVX2__)
// The same from single precision alone: the product is rounded once, after the whole number is
// taken from it, so that large logits lose nothing.
inline double exponentials(float *to, const float *z, int64_t classes, int64_t width, double n) {
    typedef Lanes<float> L;
    typedef int32_t Int __attribute__((vector_size(vector_bytes)));
    constexpr float rounder_single = 12582912.0f;
    const auto [low, high] = extent(z, width);
    const float scale = float(log2e / n), rest = float(log2e / n - double(scale));
    const float top = (high * scale + rounder_single) - rounder_single;
    for (int64_t c = 0; c < width; c += L::count) {
        const L::Vector x = L::load(z + c);
        const L::Vector whole = (x * scale + rounder_single) - rounder_single;
        const L::Vector fraction = fused(x, rest, fused(x, scale, -whole));
        const L::Vector exponent = L::larger(whole - top, L::Vector{} - 127);
        const Int bits = (__builtin_convertvector(exponent, Int) + 127) << 23;
        L::store(to + c, power_of_two<8>(fraction) * (L::Vector)bits);
    }
    std::fill(to + classes, to + width, 0.0f);
    return std::max(std::abs(double(low)), std::abs(double(high)));
}
#endif

// Fill `to` with probabilities, of logits if `softmax`, in double precision; `z` is padded.
template <class In>
void probabilities(double *to, const In *z, bool softmax, int64_t classes, int64_t width) {
    typedef Lanes<double> D;
    typedef int64_t Int __attribute__((vector_size(vector_bytes)));
    if (!softmax) {
        for (int64_t c = 0; c < classes; ++c) to[c] = double(z[c]);
    } else {
        const double most = double(extent(z, width).second);
        for (int64_t c = 0; c < width; c += D::count) {
            const D::Vector t = D::larger((doubles(z + c) - most) * log2e, D::Vector{} - 1000);
            const D::Vector whole = (t + rounder) - rounder;
            const Int bits = (__builtin_convertvector(whole, Int) + 1023) << 52;
            D::store(to + c, power_of_two<16>(t - whole) * (D::Vector)bits);
        }
        double total = 0;
        for (int64_t c = 0; c < classes; ++c) total += to[c];
        const double scale = 1 / total;
        for (int64_t c = 0; c < classes; ++c) to[c] *= scale;
    }
    std::fill(to + classes, to + width, 0.0);
}

// Fill `to` with the logits themselves; padding never is the largest.
template <class In>
void logits(float *to, const In *z, int64_t classes, int64_t width) {
    for (int64_t c = 0; c < classes; ++c) to[c] = float(z[c]);
    for (int64_t c = classes; c < width; ++c) to[c] = -1e30f;
}

// Rows of numbers, one a model or a depth, each padded.
template <class Real>
struct Rows {
    Rows(int64_t count, int64_t width)
        : width(width), numbers(size_t(count * width) + 64 / sizeof(Real)) {
        // Whole cache lines: a vector that straddles two costs twice.
        const auto address = reinterpret_cast<uintptr_t>(numbers.data());
        start = numbers.data() + (64 - address % 64) % 64 / sizeof(Real);
    }
    Real *operator[](int64_t row) { return start + row * width; }
    int64_t width;
    std::vector<Real> numbers;
    Real *start;
};

// Which models stand in any set of a size.
inline std::vector<int32_t> used(const Sets &sets) {
    std::vector<int32_t> models(sets.models, sets.models + sets.count * sets.size);
    std::sort(models.begin(), models.end());
    models.erase(std::unique(models.begin(), models.end()), models.end());
    return models;
}

// Call `visit(set, all but the last model combined, last model)` for every set of a size; what sets
// begin with alike is combined once. `tables` has a row a model, `partial` one a depth, of which the
// first is neutral.
template <class Real, class Combine, class Visit>
void each_set(const Sets &sets, Rows<Real> &tables, Rows<Real> &partial, Combine combine,
              Visit visit) {
    const int64_t n = sets.size;
    const int32_t *before = nullptr;
    for (int64_t s = 0; s < sets.count; ++s) {
        const int32_t *set = sets.models + s * n;
        int64_t same = 0;
        if (before)
            while (same < n && before[same] == set[same]) ++same;
        for (int64_t depth = std::max<int64_t>(same, 1); depth < n - 1; ++depth)
            combine(partial[depth], depth == 1 ? tables[set[0]] : partial[depth - 1],
                    tables[set[depth]]);
        visit(s, n == 1 ? partial[0] : (n == 2 ? tables[set[0]] : partial[n - 2]),
              tables[set[n - 1]]);
        before = set;
    }
}

template <class Real>
uint8_t judged(const TopTwo<Real> &top, Real own, Real margin) {
    const Real edge = top.first * (1 - margin);
    if (own < edge) return wrong;
    return top.second < edge ? right : unsure;
}

// Sum of p log (p / largest p) over a row of products, from the sums of logits beside it.
inline float spread(const float *p, const float *q, const float *z, const float *y, int64_t width) {
    typedef Lanes<float> L;
    L::Vector most = L::load(z) + L::load(y), total{};
    for (int64_t c = L::count; c < width; c += L::count)
        most = L::larger(most, L::load(z + c) + L::load(y + c));
    float top = most[0], sum = 0;
    for (int i = 1; i < L::count; ++i) top = std::max(top, most[i]);
    for (int64_t c = 0; c < width; c += L::count)
        total += L::load(p + c) * L::load(q + c) * (L::load(z + c) + L::load(y + c) - top);
    for (int i = 0; i < L::count; ++i) sum += total[i];
    return sum;
}

// A relative error that no product of `n` exponentials exceeds, with room to spare: four units in
// the last place each, twice and four times that where they are squares and fourth powers.
inline float product_error(int64_t n) { return float(n + 4) * 6 * 6e-8f; }

// Below this, what products lost to underflow may matter.
constexpr float least_product = 1e-15f;

inline double mean_logits(const std::vector<Table> &models, int64_t classes, const int64_t *labels,
                          const std::vector<Sets> &sizes, Measure measure, int64_t rows,
                          int64_t samples, const std::vector<Statistics<float>> &out) {
    const bool entropy = measure == Measure::entropy;
    const int64_t width = padded(classes);
    // For the entropy a row holds the exponentials and behind them the logits.
    const int64_t stride = entropy ? 2 * width : width;
    int64_t depth = 1;
    for (const Sets &sets : sizes) depth = std::max(depth, sets.size);
    Rows<float> tables(int64_t(models.size()), stride), partial(depth, stride);
    std::fill(partial[0], partial[0] + width, 1.0f);
    std::fill(partial[0] + width, partial[0] + stride, 0.0f);
    auto both = [&](float *to, const float *a, const float *b) {
        combine<Product>(to, a, b, width);
        if (entropy)
            for (int64_t c = width; c < stride; ++c) to[c] = a[c] + b[c];
    };
    std::vector<std::vector<int32_t>> wanted;
    for (const Sets &sets : sizes) wanted.push_back(used(sets));
    std::vector<double> room;
    std::vector<float> room_single;
    // From many models to few: exp(z/n) is the square of exp(z/2n).
    std::vector<size_t> order(sizes.size());
    for (size_t k = 0; k < order.size(); ++k) order[k] = k;
    auto chain = [&](size_t k) {
        int64_t odd = sizes[k].size;
        while (odd % 2 == 0) odd /= 2;
        return std::make_pair(odd, -sizes[k].size);
    };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return chain(a) < chain(b); });
    // Of how many models each table holds the exponentials at the moment.
    std::vector<int64_t> holds(models.size());
    double largest = 0;
    for (int64_t row = 0; row < rows; ++row) {
        std::fill(holds.begin(), holds.end(), 0);
        for (size_t k : order) {
            const double n = double(sizes[k].size);
            for (int32_t model : wanted[k]) {
                const int64_t held = std::exchange(holds[model], sizes[k].size);
                if (held == 2 * sizes[k].size) {
                    combine<Product>(tables[model], tables[model], tables[model], width);
                    continue;
                }
                auto fill = [&](const auto *z, auto &room) {
                    if (entropy) logits(tables[model] + width, z, classes, width);
                    z = whole_vectors(room, z, classes);
                    return exponentials(tables[model], z, classes, width, n);
                };
                const int64_t at = row * classes;
                const double most =
                    models[model].is_double
                        ? fill(static_cast<const double *>(models[model].data) + at, room)
                        : fill(static_cast<const float *>(models[model].data) + at, room_single);
                largest = std::max(largest, most);
            }
            const Statistics<float> &to = out[k];
            const int64_t label = labels[row];
            const float margin = 2 * product_error(sizes[k].size);
            each_set(sizes[k], tables, partial, both,
                     [&](int64_t set, const float *left, const float *last) {
                         const TopTwo<float> top = top_two<Product>(left, last, width);
                         const int64_t at = set * samples + row;
                         const bool exact = top.first > least_product;
                         to.hit[at] =
                             exact ? judged(top, left[label] * last[label], margin) : unsure;
                         to.first[at] = exact ? top.rest / top.first : NAN;
                         if (entropy)
                             to.second[at] =
                                 spread(left, last, left + width, last + width, width) /
                                 (float(n) * top.first);
                         else
                             to.second[at] = top.second / top.first;
                     });
        }
    }
    return largest;
}

inline void mean_probabilities(const std::vector<Table> &models, bool softmax, int64_t classes,
                               const int64_t *labels, const std::vector<Sets> &sizes, int64_t rows,
                               int64_t samples, const std::vector<Statistics<double>> &out) {
    const int64_t width = padded(classes);
    int64_t depth = 1;
    std::vector<int32_t> wanted;
    for (const Sets &sets : sizes) {
        depth = std::max(depth, sets.size);
        const std::vector<int32_t> more = used(sets);
        wanted.insert(wanted.end(), more.begin(), more.end());
    }
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    Rows<double> tables(int64_t(models.size()), width), partial(depth, width);
    std::fill(partial[0], partial[0] + width, 0.0);
    std::vector<double> room;
    std::vector<float> room_single;
    for (int64_t row = 0; row < rows; ++row) {
        for (int32_t model : wanted) {
            auto fill = [&](const auto *z, auto &room) {
                z = whole_vectors(room, z, classes);
                probabilities(tables[model], z, softmax, classes, width);
            };
            const int64_t at = row * classes;
            if (models[model].is_double)
                fill(static_cast<const double *>(models[model].data) + at, room);
            else
                fill(static_cast<const float *>(models[model].data) + at, room_single);
        }
        const int64_t label = labels[row];
        for (size_t k = 0; k < sizes.size(); ++k) {
            const Statistics<double> &to = out[k];
            each_set(
                sizes[k], tables, partial,
                [&](double *sum, const double *a, const double *b) {
                    combine<Sum>(sum, a, b, width);
                },
                [&](int64_t set, const double *left, const double *last) {
                    const TopTwo<double> top = top_two<Sum>(left, last, width);
                    const int64_t at = set * samples + row;
                    to.first[at] = top.first;
                    to.second[at] = top.second;
                    to.hit[at] = judged(top, left[label] + last[label], 1e-12);
                });
        }
    }
}

inline void reached(const double *scores, int64_t samples, const double *rising, int64_t count,
                    uint16_t *out) {
    typedef Lanes<double> D;
    typedef int64_t Int __attribute__((vector_size(vector_bytes)));
    int64_t i = 0;
    // Comparing with every number beats halving, which guesses wrong at every other step, up to some
    // hundreds of numbers.
    if (count <= 256)
        for (; i + 2 * D::count <= samples; i += 2 * D::count) {
            const D::Vector a = D::load(scores + i), b = D::load(scores + i + D::count);
            Int more{}, also{};
            for (int64_t k = 0; k < count; ++k) {
                const D::Vector bound = D::Vector{} + rising[k];
                more -= a >= bound;
                also -= b >= bound;
            }
            for (int l = 0; l < D::count; ++l) {
                out[i + l] = uint16_t(more[l]);
                out[i + D::count + l] = uint16_t(also[l]);
            }
        }
    for (; i < samples; ++i)
        out[i] = uint16_t(std::upper_bound(rising, rising + count, scores[i]) - rising);
}

} // namespace committee::COMMITTEE_ISA
