// Adapters that Crab+'s code and the package peft wrote (adapter_files.py), and what we write for
// peft, which peft_check.py reads.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "model/adapter_export.h"
#include "model/adapter_file.h"
#include "model/adapter_import.h"
#include "model/state.h"
#include "tests/parity/golden.h"
#include "tests/support/program.h"

namespace crabcast::model::test {
namespace {

namespace fs = std::filesystem;

constexpr double kLogitsLimit = 2e-5;

AdapterFile open(const fs::path& path) {
  auto file = open_adapter(path);
  if (!file) throw std::runtime_error(file.error().message);
  return std::move(*file);
}

class AdapterParity : public ::testing::TestWithParam<std::string> {
 protected:
  AdapterParity() { at::set_num_threads(1); }

  // Logits of all tokens of each batch with the adapter of a file.
  std::vector<NamedTensor> logits_with(const AdapterFile& file) {
    const AdapterSpec spec = complete_spec(file, {}).value();
    const Base& base = *golden_.base;
    const Status fits = check_adapter(file, base.config, spec, base.hash);
    if (!fits) throw std::runtime_error(fits.error().message);
    AdapterSet adapters(base, spec, 1, at::kCPU);
    const Thinker thinker = make_thinker(base.config, adapters.weights(base), &adapters);
    const Status loaded = import_parameters(file.tensors, adapters);
    if (!loaded) throw std::runtime_error(loaded.error().message);
    const at::NoGradGuard no_grad;
    std::vector<NamedTensor> all;
    for (const auto& [name, batch] : golden_.batches) {
      const auto packed = pack_input(base.config, model_input(batch), at::kCPU, at::kFloat);
      all.push_back({name, logits(thinker, hidden_states(thinker, *packed, {}))});
    }
    return all;
  }

  // The adapter of the golden, as it began.
  [[nodiscard]] AdapterSource source(AdapterKind kind) const {
    const AdaptedThinker adapted(golden_, AdapterScope::all, kind);
    AdapterFile file;
    for (std::size_t i = 0; i < adapted.adapters.parameters().size(); ++i)
      file.tensors.push_back(
          {adapted.adapters.parameters()[i].name, adapted.part(adapted.adapters.values(), i)});
    return {adapted.spec, "golden", golden_.base->hash, sources_of(file)};
  }

  fs::path folder_ = GetParam();
  Golden golden_{GetParam()};
};

TEST_P(AdapterParity, CrabPlusWeightsAreReadBitByBit) {
  const AdapterFile file = open(folder_ / "finetune_weights.bin");
  EXPECT_EQ(file.kind, AdapterKind::ilora);
  EXPECT_EQ(file.rank, golden_.adapter.number("rank"));
  EXPECT_EQ(file.heads, golden_.adapter.number("heads"));
  std::size_t expected = 0;
  for (const auto& [name, tensor] : golden_.adapter.tensors)
    expected += name.starts_with("initial/");
  ASSERT_EQ(file.tensors.size(), expected);
  for (const auto& [name, tensor] : file.tensors) {
    const at::Tensor theirs = golden_.adapter.at("initial/" + name).to(tensor.scalar_type());
    EXPECT_TRUE(at::equal(tensor, theirs)) << name;
  }
}

TEST_P(AdapterParity, ALoraOfPeftGivesItsLogits) {
  const TensorFile theirs = read_tensors(folder_ / "adapter_peft_logits.safetensors");
  for (const auto& [batch, ours] : logits_with(open(folder_ / "peft"))) {
    const at::Tensor expected = theirs.at(batch).to(at::kDouble);
    const double difference =
        ((ours.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
    EXPECT_LE(difference, kLogitsLimit) << batch;
  }
}

// With $CRABCAST_PARITY_EXPORT the folders stay, with our logits beside them, for peft to load.
TEST_P(AdapterParity, WhatIsExportedForPeftIsReadBack) {
  const char* kept = std::getenv("CRABCAST_PARITY_EXPORT");
  const crabcast::testing::TemporaryFolder temporary;
  const fs::path out = (kept != nullptr ? fs::path(kept) : temporary.path()) / folder_.filename();
  fs::create_directories(out);
  std::size_t adapters = 0;
  for (const AdapterKind kind : {AdapterKind::lora, AdapterKind::ilora}) {
    const fs::path folder = out / std::string(to_string(kind));
    const Status exported = export_peft(source(kind), folder);
    ASSERT_TRUE(exported.has_value()) << exported.error().message;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().filename() != "adapter_config.json") continue;
      const fs::path one = entry.path().parent_path();
      ASSERT_TRUE(write_safetensors(one / "logits.safetensors", logits_with(open(one)), {}));
      ++adapters;
    }
  }
  EXPECT_EQ(adapters, 1 + static_cast<std::size_t>(golden_.adapter.number("heads")));
}

INSTANTIATE_TEST_SUITE_P(Golden, AdapterParity, ::testing::ValuesIn(golden_folders()),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return fs::path(info.param).filename().string();
                         });

}  // namespace
}  // namespace crabcast::model::test
