#include "model/tensor_match.h"

#include <ATen/core/Tensor.h>

#include <map>

#include "model/safetensors_header.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

constexpr std::size_t kMostNames = 20;  // of one sort

class Report {
 public:
  void add(const std::string& sort, const std::string& what) {
    if (++counts_[sort] <= kMostNames) text_ += (text_.empty() ? "" : "; ") + sort + ": " + what;
  }
  [[nodiscard]] std::string text() const {
    std::string all = text_;
    for (const auto& [sort, count] : counts_)
      if (count > kMostNames)
        all += "; and " + std::to_string(count - kMostNames) + " more of these: " + sort;
    return all;
  }

 private:
  std::string text_;
  std::map<std::string, std::size_t> counts_;
};

bool has_type(const at::Tensor& tensor, const std::optional<at::ScalarType>& wanted) {
  const at::ScalarType type = tensor.scalar_type();
  if (wanted) return type == *wanted;
  return type == at::kFloat || type == at::kHalf || type == at::kBFloat16;
}

}  // namespace

std::string mismatch(const std::vector<WantedTensor>& wanted,
                     const std::vector<NamedTensor>& given) {
  Report report;
  std::map<std::string_view, const WantedTensor*> by_name;
  for (const WantedTensor& one : wanted) by_name.emplace(one.name, &one);
  std::map<std::string_view, const at::Tensor*> found;
  for (const auto& [name, tensor] : given)
    if (!found.emplace(name, &tensor).second) report.add("given twice", excerpt(name, 200));
  for (const auto& [name, shape, type] : wanted) {
    const auto at = found.find(name);
    if (at == found.end())
      report.add("missing", std::string(name));
    else if (const at::Tensor& tensor = *at->second; !tensor.defined())
      report.add("missing", std::string(name));
    else if (tensor.sizes() != at::IntArrayRef(shape) || !has_type(tensor, type))
      report.add("wrong shape or type",
                 std::string(name) + " is " + c10::toString(tensor.scalar_type()) + " " +
                     shape_text(tensor.sizes().vec()) + ", not " +
                     (type ? c10::toString(*type) : "a float") + " " + shape_text(shape));
  }
  for (const auto& [name, tensor] : found)
    if (!by_name.contains(name)) report.add("surplus", excerpt(name, 200));
  return report.text();
}

}  // namespace crabcast::model
