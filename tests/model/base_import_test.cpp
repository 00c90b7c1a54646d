// `crabcast base import`, short of the command line.
#include "model/base_import.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include "model/base.h"
#include "protocol/base_location.h"
#include "tests/model/hf_base.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using crabcast::testing::read_file;
using crabcast::testing::TemporaryFolder;
using crabcast::testing::write_file;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class BaseImport : public ::testing::Test {
 protected:
  BaseImport() {
    weights_ = test::write_base(
        source(), test::small_config(),
        {.names = test::Names::whole_in_memory, .shard_bytes = 400'000, .other_parts = true});
    write_file(source() / "tokenizer.json", "{\"a tokenizer\": true}");
  }
  [[nodiscard]] fs::path source() const { return folder_ / "published"; }
  [[nodiscard]] fs::path bases() const { return folder_ / "state" / "bases"; }
  [[nodiscard]] ImportOptions options(const std::string& name = "omni") const {
    ImportOptions options;
    options.source = source();
    options.bases = bases();
    options.name = name;
    options.shard_bytes = 600'000;
    return options;
  }
  [[nodiscard]] std::vector<std::string> names_in(const fs::path& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
      names.push_back(entry.path().filename());
    return names;
  }
  Error refused(const ImportOptions& options) const {
    const auto imported = import_base(options);
    EXPECT_FALSE(imported.has_value());
    return imported ? Error{} : imported.error();
  }

  TemporaryFolder folder_;
  WeightMap weights_;
};

TEST_F(BaseImport, IsTheSameBaseUnderANameOfItsOwn) {
  std::uint64_t seen = 0, all = 0;
  const auto imported = import_base(options(), [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GE(done, seen);
    seen = done;
    all = total;
  });
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  EXPECT_EQ(seen, all);
  EXPECT_EQ(imported->tensors, weights_.size());
  EXPECT_EQ(imported->shards, 6U);
  EXPECT_THAT(names_in(bases()), UnorderedElementsAre("omni"));
  EXPECT_THAT(
      names_in(imported->folder),
      UnorderedElementsAre("config.json", "tokenizer.json", "model.safetensors.index.json",
                           "model-00001-of-00006.safetensors", "model-00002-of-00006.safetensors",
                           "model-00003-of-00006.safetensors", "model-00004-of-00006.safetensors",
                           "model-00005-of-00006.safetensors", "model-00006-of-00006.safetensors"));
  EXPECT_EQ(read_file(imported->folder / "config.json"), read_file(source() / "config.json"));
  EXPECT_EQ(read_file(imported->folder / "tokenizer.json"), read_file(source() / "tokenizer.json"));

  const auto place = locate_base("omni", bases());
  ASSERT_TRUE(place.has_value()) << place.error().message;
  EXPECT_EQ(*place, imported->folder);
  const auto base = open_base(*place, at::kCPU, at::kFloat);
  ASSERT_TRUE(base.has_value()) << base.error().message;
  EXPECT_EQ(base->hash, imported->hash);
  EXPECT_EQ(base->hash, *hash_base(test::small_config(), weights_));
  for (const auto& [name, tensor] : weights_)
    EXPECT_TRUE(at::equal(base->weights.at(name), tensor)) << name;
}

TEST_F(BaseImport, MostTensorsCanBeSharedWithoutACopy) {
  const auto imported = import_base(options());
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  for (const auto& entry : fs::directory_iterator(imported->folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto file = SafetensorsFile::open(entry.path());
    ASSERT_TRUE(file.has_value());
    for (const auto& tensor : (*file)->entries())
      if ((tensor.end - tensor.begin) % 64 == 0)
        EXPECT_GE((*file)->alignment(tensor), 64U) << tensor.name;
  }
}

TEST_F(BaseImport, ConvertsWhereAsked) {
  ImportOptions narrow = options("narrow");
  narrow.type = Precision::bfloat16;
  const auto imported = import_base(narrow);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  WeightMap expected = weights_;
  for (auto& [name, tensor] : expected) tensor = tensor.to(at::kBFloat16);
  EXPECT_EQ(imported->hash, *hash_base(test::small_config(), expected));
  const auto base = open_base(imported->folder, at::kCPU, at::kBFloat16);
  ASSERT_TRUE(base.has_value()) << base.error().message;
  EXPECT_EQ(base->hash, imported->hash);
}

TEST_F(BaseImport, AnImportedBaseCanBeImportedAgain) {
  const auto first = import_base(options("first"));
  ASSERT_TRUE(first.has_value()) << first.error().message;
  ImportOptions again = options("second");
  again.source = first->folder;
  const auto second = import_base(again);
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_EQ(second->hash, first->hash);
}

TEST_F(BaseImport, ATakenNameIsRefusedAndNothingIsTouched) {
  write_file(bases() / "omni" / "mine.txt", "mine");
  const Error error = refused(options());
  EXPECT_EQ(error.code, Errc::already_exists);
  EXPECT_THAT(error.message, HasSubstr("choose another name"));
  EXPECT_THAT(names_in(bases()), UnorderedElementsAre("omni"));
  EXPECT_THAT(names_in(bases() / "omni"), UnorderedElementsAre("mine.txt"));
}

TEST_F(BaseImport, BadInputIsRefusedBeforeAnythingIsWritten) {
  EXPECT_EQ(refused(options("a/b")).code, Errc::invalid_argument);
  EXPECT_EQ(refused(options("nano")).code, Errc::invalid_argument);
  ImportOptions nowhere = options();
  nowhere.source = folder_ / "nowhere";
  EXPECT_EQ(refused(nowhere).code, Errc::not_found);
  fs::remove(source() / "tokenizer.json");
  EXPECT_THAT(refused(options()).message, HasSubstr("tokenizer.json"));
  fs::resize_file(source() / "model-1.safetensors", 1000);
  EXPECT_THAT(refused(options()).message, HasSubstr("model-1.safetensors"));
  EXPECT_FALSE(fs::exists(bases()));
}

TEST_F(BaseImport, AFailureLeavesNothingBehind) {
  // It is written after the weights, and no tokenizer is that large.
  fs::resize_file(source() / "tokenizer.json", 300ULL << 20);
  const Error error = refused(options());
  EXPECT_THAT(error.message, HasSubstr("tokenizer.json has 300"));
  EXPECT_TRUE(names_in(bases()).empty());
}

TEST_F(BaseImport, WhatAKilledImportLeftIsClearedAway) {
  write_file(bases() / ".omni.partial" / "model-00001-of-00009.safetensors", "half a file");
  EXPECT_EQ(locate_base("omni", bases()).error().code, Errc::not_found);
  const auto imported = import_base(options());
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  EXPECT_FALSE(fs::exists(imported->folder / "model-00001-of-00009.safetensors"));
  EXPECT_THAT(names_in(bases()), UnorderedElementsAre("omni"));
}

TEST_F(BaseImport, TwoAtOnceDoNotMix) {
  const fs::path partial = bases() / ".omni.partial";
  write_file(partial / "of the other one", "x");
  const int other = ::open(partial.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  const Error error = refused(options());
  EXPECT_EQ(error.code, Errc::already_exists);
  EXPECT_THAT(error.message, HasSubstr("another process"));
  EXPECT_TRUE(fs::exists(partial / "of the other one"));
  ::close(other);
  EXPECT_TRUE(import_base(options()).has_value());
}

}  // namespace
}  // namespace crabcast::model
