// Features of frozen towers: found or computed, the same bits.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "model/feature_store.h"
#include "model/session.h"
#include "tests/model/toy_batch.h"

namespace crabcast::model {
namespace {

using test::mixed_samples;
using test::toy_batch;
using test::ToySample;

class MemoryStore final : public FeatureStore {
 public:
  std::optional<at::Tensor> find(const FeatureKey& key) override {
    const auto at = kept.find({key.high, key.low});
    if (at == kept.end()) return std::nullopt;
    ++found;
    return at->second;
  }
  void insert(const FeatureKey& key, const at::Tensor& features_TD) override {
    kept[{key.high, key.low}] = features_TD.clone();
  }
  std::map<std::pair<std::uint64_t, std::uint64_t>, at::Tensor> kept;
  int found = 0;
};

std::unique_ptr<Session> open(std::shared_ptr<FeatureStore> store,
                              AdapterScope scope = AdapterScope::language_model, int threads = 1) {
  SessionOptions options;
  options.model.base = "nano";
  options.model.adapter.scope = scope;
  options.features = std::move(store);
  options.threads = threads;
  auto session = Session::open(options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(*session);
}

at::Tensor gradient(Session& session, const std::vector<ToySample>& of) {
  const auto lane = session.lane_gradient(toy_batch(of), 1, 0);
  EXPECT_TRUE(lane.has_value()) << lane.error().message;
  return lane->gradient;
}

TEST(MediaFeatures, FoundOrComputedTheSameBits) {
  const auto store = std::make_shared<MemoryStore>();
  const auto session = open(store);
  const at::Tensor computed = gradient(*session, mixed_samples());
  EXPECT_EQ(store->found, 0);
  EXPECT_EQ(store->kept.size(), 4U) << "two pictures, two sounds";
  EXPECT_TRUE(at::equal(gradient(*session, mixed_samples()), computed));
  EXPECT_EQ(store->found, 4);
  // Another process with a store of its own, and one that shares it.
  EXPECT_TRUE(
      at::equal(gradient(*open(std::make_shared<MemoryStore>()), mixed_samples()), computed));
  EXPECT_TRUE(at::equal(gradient(*open(store), mixed_samples()), computed));
}

TEST(MediaFeatures, NearThoseOfABatch) {
  const at::Tensor alone = gradient(*open(std::make_shared<MemoryStore>()), mixed_samples());
  const at::Tensor together = gradient(*open(nullptr), mixed_samples());
  EXPECT_LT(((alone - together).norm() / together.norm()).item<double>(), 1e-5);
}

TEST(MediaFeatures, WhoSharesABatchDoesNotShow) {
  const auto store = std::make_shared<MemoryStore>();
  const auto session = open(store);
  (void)gradient(*session, {mixed_samples()[0]});  // from a batch of one
  const at::Tensor mixed = gradient(*session, mixed_samples());
  EXPECT_EQ(store->found, 2);
  EXPECT_TRUE(at::equal(mixed, gradient(*open(std::make_shared<MemoryStore>()), mixed_samples())));
}

TEST(MediaFeatures, OtherMediaAndOtherThreadsHaveOtherKeys) {
  const auto store = std::make_shared<MemoryStore>();
  (void)gradient(*open(store), {mixed_samples()[1]});
  const auto other = open(store)->lane_gradient(toy_batch({mixed_samples()[1]}, 2), 1, 0);
  ASSERT_TRUE(other.has_value());
  EXPECT_EQ(store->found, 0);
  (void)gradient(*open(store, AdapterScope::language_model, 2), {mixed_samples()[1]});
  EXPECT_EQ(store->found, 0);
}

TEST(MediaFeatures, NotWhereTowersAreTrained) {
  SessionOptions options;
  options.model.base = "nano";
  options.features = std::make_shared<MemoryStore>();
  const auto session = Session::open(options);
  ASSERT_FALSE(session.has_value());
  EXPECT_EQ(session.error().code, Errc::invalid_argument);
}

}  // namespace
}  // namespace crabcast::model
