#include "actors/compute/feature_cache.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "data/tensor_cache.h"

namespace crabcast::actors {
namespace {

class FeatureCache final : public model::FeatureStore {
 public:
  explicit FeatureCache(std::unique_ptr<data::TensorCache> tensors)
      : tensors_(std::move(tensors)) {}

  std::optional<at::Tensor> find(const model::FeatureKey& key) override {
    const auto found = tensors_->find({key.high, key.low});
    if (!found || found->size() != 1) return std::nullopt;
    return found->front();
  }

  void insert(const model::FeatureKey& key, const at::Tensor& features_TD) override {
    const Status kept = tensors_->insert({key.high, key.low}, {features_TD});
    if (kept || std::exchange(told_, true)) return;
    spdlog::warn("features are not kept: {}", kept.error().message);
  }

 private:
  std::unique_ptr<data::TensorCache> tensors_;
  bool told_ = false;
};

}  // namespace

Result<std::shared_ptr<model::FeatureStore>> open_feature_cache(const std::filesystem::path& folder,
                                                                std::uint64_t bytes) {
  auto tensors = data::TensorCache::open({.folder = folder, .bytes = bytes});
  if (!tensors) return fail(tensors.error());
  return std::make_shared<FeatureCache>(std::move(*tensors));
}

}  // namespace crabcast::actors
