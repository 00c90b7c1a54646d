// Files of torch.save: what is read, bit by bit, and archives that are refused.
#include "model/torch_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/mutation.h"
#include "tests/model/torch_fixture.h"

namespace crabcast::model {
namespace {

using namespace test;
using testing::HasSubstr;

std::string floats(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += little(static_cast<float>(i));
  return bytes;
}

const DictTensor kTensor = {"a.weight", {2, 3}, {3, 1}, "0", 6};

Result<std::vector<NamedTensor>> open_bytes(const std::string& bytes) {
  const MemoryFile file;
  file.set(bytes);
  return open_torch_file(file.path());
}

std::string refusal(const std::string& bytes) {
  const auto tensors = open_bytes(bytes);
  if (tensors.has_value()) return "it was read";
  EXPECT_EQ(tensors.error().code, Errc::corrupt) << tensors.error().message;
  return tensors.error().message;
}

std::string refusal(const DictTensor& tensor) {
  return refusal(make_zip(torch_records(pickled_state_dict({tensor}), {floats(6)})));
}

template <class Change>
std::string refusal_of_changed(const Change& change) {
  auto records = torch_records(pickled_state_dict({kTensor}), {floats(6)});
  change(records);
  return refusal(make_zip(records));
}

TEST(TorchFile, TensorsAreViewsOfTheFile) {
  const DictTensor part = {"part", {2}, {1}, "0", 6, 4}, column = {"column", {2}, {3}, "0", 6, 1};
  const DictTensor empty = {"empty", {0, 3}, {3, 1}, "0", 6};
  const auto tensors = open_bytes(
      make_zip(torch_records(pickled_state_dict({kTensor, part, column, empty}), {floats(6)})));
  ASSERT_TRUE(tensors.has_value()) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 4U);
  const at::Tensor& whole = (*tensors)[0].tensor;
  EXPECT_TRUE(at::equal(whole, at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_EQ((*tensors)[1].tensor.const_data_ptr<float>(), whole.const_data_ptr<float>() + 4);
  EXPECT_TRUE(at::equal((*tensors)[2].tensor, at::tensor({1.0F, 4.0F})));  // copied into order
  EXPECT_TRUE((*tensors)[2].tensor.is_contiguous());
  EXPECT_EQ((*tensors)[3].tensor.numel(), 0);
}

TEST(TorchFile, KnowsItsBeginning) {
  const MemoryFile file;
  file.set(make_zip(torch_records(pickled_state_dict({kTensor}), {floats(6)})));
  EXPECT_TRUE(is_torch_file(file.path()));
  file.set("PK");
  EXPECT_FALSE(is_torch_file(file.path()));
  EXPECT_FALSE(is_torch_file("/nowhere"));
}

TEST(TorchFile, ArchivesOfMoreThanFourGigabytesAreReadTheSame) {
  const auto records = torch_records(pickled_state_dict({kTensor}), {floats(6)});
  const auto tensors = open_bytes(make_zip(records, true));
  ASSERT_TRUE(tensors.has_value()) << tensors.error().message;
  EXPECT_TRUE(at::equal(tensors->front().tensor, at::arange(6, at::kFloat).view({2, 3})));
  const std::string wide = make_zip(records, true);
  for (std::size_t size = 0; size < wide.size(); ++size)
    ASSERT_NE(refusal(wide.substr(0, size)), "it was read") << size;
  auto hostile = records;
  hostile[2].size = INT64_MAX;
  EXPECT_THAT(refusal(make_zip(hostile, true)), HasSubstr("reach into the directory"));
  hostile = records;
  hostile[2].place = INT64_MAX;
  EXPECT_THAT(refusal(make_zip(hostile, true)), HasSubstr("beyond the end of the file"));
}

TEST(TorchFile, RefusesTensorsOutsideOfTheirStorage) {
  const auto changed = [](auto change) {
    DictTensor tensor = kTensor;
    change(tensor);
    return refusal(tensor);
  };
  EXPECT_THAT(changed([](auto& t) { t.elements = 7; }), HasSubstr("a.weight: its storage has 24"));
  EXPECT_THAT(changed([](auto& t) { t.elements = INT64_MAX; }), HasSubstr("its storage has 24"));
  EXPECT_THAT(changed([](auto& t) { t.type = "HalfStorage"; }), HasSubstr("its storage has 24"));
  EXPECT_THAT(changed([](auto& t) { t.storage = "1"; }), HasSubstr("storage 1 is not in the file"));
  EXPECT_THAT(changed([](auto& t) { t.storage = "../version"; }), HasSubstr("is not in the file"));
  EXPECT_THAT(changed([](auto& t) { t.offset = 1; }), HasSubstr("reaches beyond its storage"));
  EXPECT_THAT(changed([](auto& t) { t.offset = INT64_MAX; }), HasSubstr("beyond"));
  EXPECT_THAT(changed([](auto& t) { t.strides = {INT64_MAX, 1}; }), HasSubstr("beyond"));
  EXPECT_THAT(changed([](auto& t) { t.shape = {3, 3}; }), HasSubstr("beyond"));
  EXPECT_THAT(changed([](auto& t) { t.shape = {INT64_MAX, INT64_MAX}; }), HasSubstr("beyond"));
  // A small file that would become a large tensor.
  EXPECT_THAT(changed([](auto& t) {
                t.shape = {1 << 20, 1 << 20};
                t.strides = {0, 0};
              }),
              HasSubstr("beyond"));
}

TEST(TorchFile, RefusesArchivesThatAreMoreOrLessThanTorchWrites) {
  EXPECT_THAT(refusal(""), HasSubstr("too short"));
  EXPECT_THAT(refusal(std::string(5000, 'x')), HasSubstr("no end of a zip archive"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[0].name = "weights/data.txt"; }),
              HasSubstr("no data.pkl"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[1].bytes = "big"; }), HasSubstr("big endian"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].method = 8; }),
              HasSubstr("weights/data/0: it is compressed"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].flags = 1; }), HasSubstr("it is encrypted"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].crc = 5; }),
              HasSubstr("weights/data/0: its bytes do not match its checksum"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[0].crc = 5; }), HasSubstr("checksum"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].local_name = "weights/data/1"; }),
              HasSubstr("two names"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[3].name = r[2].name; }), HasSubstr("twice"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].place = r[0].place = 0; }),
              HasSubstr("two names"));
  for (const std::string name : {"", "/etc/passwd", "../a", "a/../../b", "a\\b", ".."})
    EXPECT_THAT(refusal_of_changed([&](auto& r) { r[3].name = name; }),
                HasSubstr("not one of a file in a folder"))
        << name;
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].place = 0xFFFFFFF0; }),
              HasSubstr("beyond the end of the file"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].size = 1 << 20; }),
              HasSubstr("reach into the directory"));
  EXPECT_THAT(refusal_of_changed([](auto& r) { r[2].size = 100; }), HasSubstr("overlap"));
}

// Two names for the same bytes: the trick of archives that unpack to terabytes.
TEST(TorchFile, RefusesOverlappingEntries) {
  auto records = torch_records(pickled_state_dict({kTensor}), {floats(6)});
  const std::string inner = make_zip({{"weights/data/1", floats(6)}});
  records.push_back({"weights/data/2", inner.substr(0, inner.find("PK\1\2"))});
  std::size_t inside = 0;
  {
    auto outer = make_zip(records);
    inside = outer.find("weights/data/1") - 30;
  }
  records.push_back({"weights/data/1", floats(6)});
  records.back().place = static_cast<std::int64_t>(inside);
  EXPECT_THAT(refusal(make_zip(records)), HasSubstr("overlap"));
}

TEST(TorchFile, RefusesEveryShorterFile) {
  const std::string good = make_zip(torch_records(pickled_state_dict({kTensor}), {floats(6)}));
  ASSERT_TRUE(open_bytes(good).has_value());
  for (std::size_t size = 0; size < good.size(); ++size)
    ASSERT_NE(refusal(good.substr(0, size)), "it was read") << size;
  EXPECT_NE(refusal(good + "x"), "it was read");
}

TEST(TorchFile, NoCodeInAFile) {
  const std::string evil =
      "\x80\x02"
      "cposix\nsystem\n" +
      pickled_text("touch /tmp/owned") + "\x85R.";
  EXPECT_THAT(refusal(make_zip(torch_records(evil, {floats(6)}))),
              HasSubstr("data.pkl: at byte 2: it names posix.system"));
}

TEST(TorchFile, NamesTheFile) {
  const auto tensors = open_torch_file("/nowhere/weights.bin");
  ASSERT_FALSE(tensors.has_value());
  EXPECT_EQ(tensors.error().code, Errc::not_found);
  EXPECT_THAT(tensors.error().message, HasSubstr("/nowhere/weights.bin"));
}

// ---- Damage from seeds

TEST(TorchFileFuzz, DamagedArchivesAreReadOrRefused) {
  const std::string good = make_zip(
      torch_records(pickled_state_dict({kTensor, {"b", {3}, {1}, "1", 4, 1, "BFloat16Storage"}}),
                    {floats(6), "12345678"}));
  const MemoryFile file;
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    file.set(mutate(good, seed, 0, good.size()));
    const auto tensors = open_torch_file(file.path());
    refused += !tensors.has_value();
    if (!tensors.has_value()) {
      ASSERT_FALSE(tensors.error().message.empty());
      continue;
    }
    for (const NamedTensor& tensor : *tensors) tensor.tensor.sum();  // every byte can be touched
  }
  EXPECT_GT(refused, 2000);
}

// The checksum of the archive stops most damage before the pickle is read, so here it is right.
TEST(TorchFileFuzz, DamagedPicklesAreReadOrRefused) {
  const std::string good = pickled_state_dict(
      {kTensor, {"b", {3}, {1}, "1", 4, 1, "BFloat16Storage"}, {"c", {0}, {1}, "0", 6}});
  const MemoryFile file;
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    file.set(make_zip(torch_records(mutate(good, seed, 0, good.size()), {floats(6), "12345678"})));
    const auto tensors = open_torch_file(file.path());
    refused += !tensors.has_value();
    if (tensors.has_value())
      for (const NamedTensor& tensor : *tensors) tensor.tensor.sum();
  }
  EXPECT_GT(refused, 4000);
}

}  // namespace
}  // namespace crabcast::model
