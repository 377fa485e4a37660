// Every vector of thresholds of a sequence: total cost and value, kept where no known committee
// clearly beats it.
//
// A sample goes on at a stage if its score reaches no more than `choice` of the candidate thresholds
// there. With the samples counted in a table over the last two stages that have a threshold, running
// sums along both axes give cost and value of all choices for the two. Thresholds of earlier stages
// are looped over from the lowest; samples that go on are added to the table as the threshold rises.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "kernels.hpp"
#include "lanes.hpp"

namespace committee::COMMITTEE_ISA {

// Committees cheaper than this share of a point's cost clearly cost less, rounding or not.
constexpr double clearly = 1 - 1e-12;

// Known (cost, value) pairs, both rising, and a quick answer to "does one clearly beat this?"
class Staircase {
    typedef std::pair<double, int64_t> Step;

  public:
    // Costs asked for lie between these two.
    Staircase(double lowest, double highest)
        : base_(word(lowest)), best_(size_t(word(highest) - base_) + 4, none) {}

    void learn(const std::vector<Step> &points) {
        std::vector<Step> all;
        for (const Step &point : points)
            if (improves(point)) all.push_back(point);
        if (all.empty()) return;
        all.insert(all.end(), steps_.begin(), steps_.end());
        std::sort(all.begin(), all.end(), [](const Step &a, const Step &b) {
            return a.first < b.first || (a.first == b.first && a.second > b.second);
        });
        steps_.clear();
        for (const Step &point : all)
            if (steps_.empty() || point.second > steps_.back().second) steps_.push_back(point);
        std::fill(best_.begin(), best_.end(), none);
        // The slot after the next holds only costs above this one, rounding to float included.
        for (const auto &[cost, value] : steps_) {
            int64_t &best = best_[size_t(slot(cost)) + 2];
            best = std::max(best, value);
        }
        for (size_t i = 1; i < best_.size(); ++i) best_[i] = std::max(best_[i], best_[i - 1]);
    }

    // True if a committee that clearly costs less is at least as good; it may say no too often.
    bool quickly_beats(double cost, int64_t value) const { return best_[slot(cost)] >= value; }

    // True if a committee that clearly costs less is at least as good.
    bool beats(double cost, int64_t value) const {
        auto after = std::lower_bound(
            steps_.begin(), steps_.end(), cost * clearly,
            [](const Step &step, double limit) { return step.first < limit; });
        return after != steps_.begin() && std::prev(after)->second >= value;
    }

  private:
    static constexpr int64_t none = std::numeric_limits<int64_t>::min();

    bool improves(const Step &point) const {
        auto after = std::upper_bound(
            steps_.begin(), steps_.end(), point.first,
            [](double limit, const Step &step) { return limit < step.first; });
        return after == steps_.begin() || std::prev(after)->second < point.second;
    }

    // Slots of equal ratio, 512 an octave: the leading bits of a float grow with its logarithm.
    static int64_t word(double cost) {
        const float near = float(cost);
        uint32_t bits;
        std::memcpy(&bits, &near, sizeof bits);
        return bits >> 14;
    }
    int64_t slot(double cost) const { return std::max<int64_t>(word(cost) - base_, 0); }

    int64_t base_;
    std::vector<int64_t> best_;
    std::vector<Step> steps_;
};

// Sums over samples: 16 bits hold counts of few samples, 32 bits of any, 64 bits any value.
template <class Value, class Total>
class Sweeper {
    typedef Lanes<Total> L;
    static constexpr int lanes = L::count;

  public:
    explicit Sweeper(const Sweep &in)
        : in_(in), stages_(in.stages), axes_(in.stages - 1), staircase_(extent(in)) {
        std::vector<std::pair<double, int64_t>> known;
        for (int64_t i = 0; i < in.known; ++i)
            known.emplace_back(in.known_costs[i], in.known_values[i]);
        staircase_.learn(known);
        for (int l = 0; l < lanes; ++l)
            for (int p = 0; p < lanes; ++p) steps_[p][l] = l >= p;
    }

    Points run() {
        for (int64_t s = 0; s < in_.count && !stopped(); ++s) sequence(s);
        return std::move(out_);
    }

  private:
    bool stopped() const { return in_.stop->load(std::memory_order_relaxed) != 0; }

    struct Found {
        double cost;
        int64_t value;
        int64_t joined; // stages that never exit, which join the next
        std::vector<int32_t> choices;
        std::vector<int64_t> reach;
    };

    // The least and the most that all samples together may cost.
    static Staircase extent(const Sweep &in) {
        double lowest = std::numeric_limits<double>::max(), highest = 0;
        for (int64_t s = 0; s < in.count; ++s) {
            double total = 0;
            for (int64_t k = 0; k < in.stages; ++k) total += in.costs[s * in.stages + k];
            lowest = std::min(lowest, in.costs[s * in.stages]);
            highest = std::max(highest, total);
        }
        for (int64_t i = 0; i < in.known; ++i)
            highest = std::max(highest, in.known_costs[i] / double(in.samples));
        return Staircase(lowest * double(in.samples), highest * double(in.samples));
    }

    const Value *values(int64_t prefix) const {
        return static_cast<const Value *>(in_.values) + prefix * in_.samples;
    }

    void sequence(int64_t s) {
        const int32_t *prefixes = in_.sequences + s * stages_;
        found_.clear();
        choices_.assign(axes_, 0);
        for (int64_t k = 0; k < stages_; ++k) values_[k] = values(prefixes[k]);
        for (int64_t k = 0; k < axes_; ++k) {
            passed_[k] = in_.passed + int64_t(prefixes[k]) * in_.samples;
            widths_[k] = in_.widths[prefixes[k]];
        }
        cost_ = in_.costs + s * stages_;
        int64_t value = 0;
        for (int64_t i = 0; i < in_.samples; ++i) value += values_[0][i];
        for (int64_t b = 0; b < in_.bounds; ++b)
            bounded_[b] = in_.costs + (1 + b) * in_.count * stages_ + s * stages_;
        reach_.assign(stages_, 0);
        reach_[0] = in_.samples;
        const double cost = cost_[0] * double(in_.samples);
        if (axes_ == 0) {
            keep(cost, value);
        } else {
            if (axes_ <= 2) {
                axes_ == 2 ? fill<2>() : fill<1>();
                scan(cost, value);
            } else {
                std::vector<int32_t> all(in_.samples);
                for (int64_t i = 0; i < in_.samples; ++i) all[i] = int32_t(i);
                loop(0, all, cost, value);
            }
        }
        settle(s);
    }

    // What the table of the last two thresholds needs of a sample: which candidates it passes there,
    // and by how much its value changes where it goes on.
    struct Packed {
        uint16_t row, column;
        Total row_change, change;
    };

    template <int axes = 2> Packed packed(int64_t i) const {
        const int64_t last = axes_ - 1;
        Packed out{0, passed_[last][i], 0, Total(Total(values_[last + 1][i]) - values_[last][i])};
        if (axes >= 2) {
            out.row = passed_[last - 1][i];
            out.row_change = Total(Total(values_[last][i]) - values_[last - 1][i]);
        }
        return out;
    }

    // Loop over the threshold of an early stage, from the lowest.
    void loop(int64_t axis, const std::vector<int32_t> &alive, double cost, int64_t value) {
        const uint16_t *passed = passed_[axis];
        const Value *here = values_[axis], *next = values_[axis + 1];
        const int32_t width = widths_[axis];
        std::vector<int32_t> starts(width + 1, 0), sorted(alive.size());
        std::vector<int64_t> changes(width, 0);
        for (int32_t i : alive) {
            ++starts[passed[i] + 1];
            changes[passed[i]] += int64_t(next[i]) - int64_t(here[i]);
        }
        for (int32_t w = 0; w < width; ++w) starts[w + 1] += starts[w];
        std::vector<int32_t> at(starts.begin(), starts.end() - 1);
        const bool innermost = axis == axes_ - 3;
        std::vector<Packed> ready(innermost ? alive.size() : 0);
        if (innermost)
            for (int32_t i : alive) ready[at[passed[i]]++] = packed(i);
        else
            for (int32_t i : alive) sorted[at[passed[i]]++] = i;
        if (innermost) prepare();
        std::vector<int32_t> going;
        for (int32_t choice = 0; choice < width; ++choice) {
            if (stopped()) return;
            const int32_t first = starts[choice], past = starts[choice + 1];
            value += changes[choice];
            if (innermost)
                for (int32_t k = first; k < past; ++k) count(ready[k]);
            // The same samples go on as by the choice before, which is told by the lower number;
            // "never" alone is told by its own.
            if (choice && choice != width - 1 && first == past) continue;
            cost += cost_[axis + 1] * double(past - first);
            choices_[axis] = choice;
            reach_[axis + 1] = past;
            if (innermost) {
                scan(cost, value);
            } else {
                going.assign(sorted.begin(), sorted.begin() + past);
                loop(axis + 1, going, cost, value);
            }
        }
    }

    // An empty table over the last two thresholds; one that is not there has one choice.
    void prepare() {
        rows_ = axes_ >= 2 ? widths_[axes_ - 2] : 1;
        blocks_ = (widths_[axes_ - 1] + lanes - 1) / lanes;
        counts_.assign(size_t(rows_ * blocks_), typename L::Vector{});
        changes_.assign(size_t(rows_ * blocks_), typename L::Vector{});
        row_counts_.assign(rows_, 0);
        row_changes_.assign(rows_, 0);
        running_counts_.resize(blocks_);
        running_changes_.resize(blocks_);
    }

    // The table of all samples at once: count them by cell, then sum along the columns.
    template <int axes> void fill() {
        prepare();
        const int64_t wide = blocks_ * lanes;
        cell_counts_.assign(size_t(rows_ * wide), 0);
        cell_changes_.assign(size_t(rows_ * wide), 0);
        for (int64_t i = 0; i < in_.samples; ++i) {
            const Packed sample = packed<axes>(i);
            const size_t cell = size_t(sample.row * wide + sample.column);
            ++cell_counts_[cell];
            cell_changes_[cell] += sample.change;
            if (axes >= 2) {
                ++row_counts_[sample.row];
                row_changes_[sample.row] += sample.row_change;
            }
        }
        for (int64_t row = 0; row < rows_; ++row) {
            Total *counts = cell_counts_.data() + row * wide;
            Total *changes = cell_changes_.data() + row * wide;
            std::partial_sum(counts, counts + wide, counts);
            std::partial_sum(changes, changes + wide, changes);
        }
        std::memcpy(counts_.data(), cell_counts_.data(), cell_counts_.size() * sizeof(Total));
        std::memcpy(changes_.data(), cell_changes_.data(), cell_changes_.size() * sizeof(Total));
    }

    // Add a sample that goes on to the first of the last two thresholds. Running sums along columns
    // are kept as samples come.
    void count(const Packed &sample) {
        ++row_counts_[sample.row];
        row_changes_[sample.row] += sample.row_change;
        const int64_t first = sample.column / lanes, blocks = blocks_;
        const typename L::Vector step = steps_[sample.column % lanes];
        typename L::Vector *counts = counts_.data() + sample.row * blocks;
        counts[first] += step;
        for (int64_t b = first + 1; b < blocks; ++b) counts[b] += Total(1);
        if (const Total change = sample.change) {
            typename L::Vector *changes = changes_.data() + sample.row * blocks;
            changes[first] += step * change;
            for (int64_t b = first + 1; b < blocks; ++b) changes[b] += change;
        }
    }

    // Go through the table, row by row; `cost` and `value` are those of exiting before its stages.
    void scan(double cost, int64_t value) {
        const int64_t last = axes_ - 1;
        const int32_t width = widths_[last];
        const int64_t blocks = blocks_;
        std::fill(running_counts_.begin(), running_counts_.end(), typename L::Vector{});
        std::fill(running_changes_.begin(), running_changes_.end(), typename L::Vector{});
        const double cost_row = axes_ >= 2 ? cost_[last] : 0, cost_cell = cost_[last + 1];
        int64_t going = 0;
        for (int64_t row = 0; row < rows_; ++row) {
            going += row_counts_[row];
            value += row_changes_[row];
            typename L::Vector *running_counts = running_counts_.data();
            typename L::Vector *running_changes = running_changes_.data();
            const typename L::Vector *counts = counts_.data() + row * blocks;
            const typename L::Vector *changes = changes_.data() + row * blocks;
            typename L::Vector most = running_changes[0] + changes[0];
            for (int64_t b = 0; b < blocks; ++b) {
                running_counts[b] += counts[b];
                const typename L::Vector change = running_changes[b] + changes[b];
                running_changes[b] = change;
                most = L::larger(most, change);
            }
            const bool never = row == rows_ - 1;
            if (row && !never && !row_counts_[row]) continue;
            const Total best = largest(most);
            const double cost_here = cost + cost_row * double(going);
            const double least = cost_here + cost_cell * double(running_counts_[0][0]);
            if (staircase_.quickly_beats(least, value + best)) continue;
            if (staircase_.beats(least, value + best)) continue;
            if (axes_ >= 2) {
                choices_[last - 1] = int32_t(row);
                reach_[last] = going;
            }
            Total before = -1;
            for (int32_t column = 0; column < width; ++column) {
                const Total reached = running_counts_[column / lanes][column % lanes];
                if (reached == before && column != width - 1) continue;
                before = reached;
                const int64_t total = value + running_changes_[column / lanes][column % lanes];
                choices_[last] = column;
                reach_[last + 1] = reached;
                const double cost_total = cost_here + cost_cell * double(reached);
                if (!staircase_.quickly_beats(cost_total, total) &&
                    !staircase_.beats(cost_total, total))
                    keep(cost_total, total);
            }
        }
    }

    static Total largest(typename L::Vector lanes_) {
        alignas(vector_bytes) Total each[lanes];
        L::store(each, lanes_);
        for (int half = lanes / 2; half; half /= 2)
            for (int l = 0; l < half; ++l) each[l] = std::max(each[l], each[l + half]);
        return each[0];
    }

    void keep(double cost, int64_t value) {
        for (int64_t b = 0; b < in_.bounds; ++b) {
            double total = 0;
            for (int64_t k = 0; k < stages_; ++k) total += bounded_[b][k] * double(reach_[k]);
            // Within a tolerance; the limit itself is checked on the exact figure.
            if (total * clearly > in_.limits[b]) return;
        }
        int64_t joined = 0;
        for (int64_t k = 0; k < axes_; ++k) joined += choices_[k] == widths_[k] - 1;
        found_.push_back({cost, value, joined, choices_, reach_});
        // Thin out before memory fills with points that beat each other.
        if (found_.size() >= crowd) thin();
    }

    // Keep what nothing found in this sequence clearly beats; of equals, that of the fewest stages,
    // then the lowest thresholds.
    void thin() {
        std::sort(found_.begin(), found_.end(), [](const Found &a, const Found &b) {
            return std::make_tuple(a.cost, -a.value, -a.joined, std::cref(a.choices)) <
                   std::make_tuple(b.cost, -b.value, -b.joined, std::cref(b.choices));
        });
        std::vector<std::pair<double, int64_t>> steps;
        for (const Found &each : found_)
            if (steps.empty() || each.value > steps.back().second)
                steps.emplace_back(each.cost, each.value);
        staircase_.learn(steps);
        size_t kept = 0;
        for (size_t i = 0; i < found_.size(); ++i) {
            if (kept && found_[kept - 1].cost == found_[i].cost) continue;
            if (staircase_.beats(found_[i].cost, found_[i].value)) continue;
            if (kept != i) found_[kept] = std::move(found_[i]);
            ++kept;
        }
        found_.resize(kept);
        crowd = std::max<size_t>(1 << 14, 2 * kept);
    }

    void settle(int64_t s) {
        if (found_.empty()) return;
        thin();
        for (const Found &each : found_) {
            out_.sequence.push_back(int32_t(s));
            out_.choices.insert(out_.choices.end(), each.choices.begin(), each.choices.end());
            out_.reach.insert(out_.reach.end(), each.reach.begin(), each.reach.end());
            out_.cost.push_back(each.cost);
            out_.value.push_back(each.value);
        }
    }

    static constexpr int most_stages = 64;
    const Sweep &in_;
    const int64_t stages_, axes_;
    Staircase staircase_;
    Points out_;
    std::vector<Found> found_;
    size_t crowd = 1 << 14;
    std::vector<int32_t> choices_;
    std::vector<int64_t> reach_;
    const Value *values_[most_stages];
    const uint16_t *passed_[most_stages];
    int32_t widths_[most_stages];
    const double *cost_ = nullptr;
    const double *bounded_[most_stages];
    int64_t rows_ = 1, blocks_ = 0;
    std::vector<typename L::Vector> counts_, changes_, running_counts_, running_changes_;
    std::vector<int64_t> row_counts_, row_changes_;
    std::vector<Total> cell_counts_, cell_changes_;
    typename L::Vector steps_[lanes];
};

inline Points sweep(const Sweep &in) {
    if (in.wide_values) return Sweeper<int64_t, int64_t>(in).run();
    if (in.samples < 32768) return Sweeper<int8_t, int16_t>(in).run();
    return Sweeper<int8_t, int32_t>(in).run();
}

} // namespace committee::COMMITTEE_ISA
