// Compiled once for each instruction set; COMMITTEE_ISA names the copy.
#include "statistics.hpp"
#include "sweep.hpp"

namespace committee::COMMITTEE_ISA {

extern const Kernels kernels;
const Kernels kernels{Lanes<float>::count, mean_logits, mean_probabilities, reached, sweep};

} // namespace committee::COMMITTEE_ISA
