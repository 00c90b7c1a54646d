// The file format: what is written comes back, and whatever breaks the format is refused.
#include "model/safetensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <optional>

#include "tests/support/program.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using crabcast::testing::read_file;
using crabcast::testing::TemporaryFolder;
using crabcast::testing::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string with_length(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::shared_ptr<const SafetensorsFile> open(const fs::path& path) {
  auto file = SafetensorsFile::open(path);
  EXPECT_TRUE(file.has_value()) << file.error().message;
  return file ? *file : nullptr;
}

const SafetensorsFile::Entry& entry(const SafetensorsFile& file, const std::string& name) {
  for (const auto& one : file.entries())
    if (one.name == name) return one;
  throw std::runtime_error("no tensor " + name);
}

TEST(Safetensors, ReadsWhatOthersWrite) {
  const TemporaryFolder folder;
  // As the Python library writes it: blanks fill the header up to a multiple of eight.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}   )";
  const float numbers[] = {1.5F, -2};
  write_file(folder / "x",
             with_length(header, std::string(reinterpret_cast<const char*>(numbers), 8) +
                                     std::string("\x80\x3F\x00\xC0", 4)));
  const auto file = open(folder / "x");
  EXPECT_THAT(file->metadata(),
              ElementsAre(std::pair<const std::string, std::string>("format", "pt")));
  ASSERT_EQ(file->entries().size(), 2U);
  EXPECT_EQ(file->entries()[0].name, "a");
  EXPECT_EQ(file->entries()[0].type, at::kBFloat16);
  EXPECT_THAT(file->entries()[0].shape, ElementsAre(1, 2));
  EXPECT_EQ(file->entries()[0].begin, 8U);
  EXPECT_EQ(file->entries()[0].end, 12U);
  EXPECT_TRUE(at::equal(file->tensor(file->entries()[0]).to(at::kFloat),
                        at::tensor({1.0F, -2.0F}).view({1, 2})));
  EXPECT_TRUE(at::equal(file->tensor(file->entries()[1]), at::tensor({1.5F, -2.0F})));
  float second = 0;
  ASSERT_TRUE(
      file->read(file->entries()[1], 4, std::as_writable_bytes(std::span(&second, 1))).has_value());
  EXPECT_EQ(second, -2);
}

TEST(Safetensors, WhatIsWrittenComesBack) {
  const TemporaryFolder folder;
  std::vector<NamedTensor> tensors;
  for (const auto type : {at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf,
                          at::kBFloat16, at::kFloat, at::kDouble})
    tensors.push_back({std::string("of ") + c10::toString(type), at::arange(-3, 8).abs().to(type)});
  tensors.push_back({"\"quoted\" \xC3\xBC", at::arange(64, at::kFloat).view({4, 1, 16})});
  tensors.push_back({"scalar", at::scalar_tensor(7, at::kFloat)});
  tensors.push_back({"empty", at::empty({3, 0, 2}, at::kHalf)});
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"made by", "a test"}};
  const Status written = write_safetensors(folder / "x", tensors, metadata);
  ASSERT_TRUE(written.has_value()) << written.error().message;

  const auto file = open(folder / "x");
  EXPECT_EQ(file->metadata(), metadata);
  ASSERT_EQ(file->entries().size(), tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const auto& stored = entry(*file, tensor.name);
    EXPECT_EQ(stored.type, tensor.tensor.scalar_type()) << tensor.name;
    EXPECT_TRUE(at::equal(file->tensor(stored), tensor.tensor)) << tensor.name;
    EXPECT_GE(file->alignment(stored), tensor.tensor.element_size()) << tensor.name;
  }
  // 64 elements of 4 bytes are whole units; 11 elements of no type are.
  EXPECT_GE(file->alignment(entry(*file, "\"quoted\" \xC3\xBC")), 64U);
}

TEST(Safetensors, AViewOutlivesTheFile) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_safetensors(folder / "x", {{"a", at::arange(100)}}, {}).has_value());
  at::Tensor view;
  {
    const auto file = open(folder / "x");
    view = file->tensor(file->entries()[0]);
  }
  fs::remove(folder / "x");
  EXPECT_TRUE(at::equal(view, at::arange(100)));
}

TEST(Safetensors, BytesThatAreNotAlignedAreCopied) {
  const TemporaryFolder folder;
  const float number = 3.25F;
  write_file(folder / "x",
             with_length(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                         R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                         "x" + std::string(reinterpret_cast<const char*>(&number), 4)));
  const auto file = open(folder / "x");
  const at::Tensor tensor = file->tensor(file->entries()[0]);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % alignof(float), 0U);
  EXPECT_EQ(tensor.item<float>(), number);
}

struct Broken {
  const char* what;
  std::string header;
  std::size_t data;
  const char* message;
};

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"layer.a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}}";
}

TEST(Safetensors, ABrokenHeaderIsRefusedWithTheReason) {
  const std::string f32 = R"("F32")";
  const std::string deep(100, '[');
  const std::vector<Broken> cases = {
      {"no JSON", "{\"a\":", 0, "no valid JSON"},
      {"nothing", "", 0, "no valid JSON"},
      {"no object", "[]", 0, "no JSON object"},
      {"not UTF-8", "{\"\xFF\":1}", 0, "UTF-8"},
      {"too deep", "{\"a\":" + deep, 0, "levels"},
      {"rubbish behind", one(f32, "[1]", "[0,4]") + "x", 4, "no valid JSON"},
      {"a name twice",
       R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
       R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
       0, "\"a\" stands twice"},
      {"a field twice", R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0,
       "\"dtype\" stands twice"},
      {"unknown type", one(R"("F4")", "[1]", "[0,4]"), 4, "dtype is \"F4\""},
      {"type is no text", one("7", "[1]", "[0,4]"), 4, "dtype is 7"},
      {"shape is no list", one(f32, "4", "[0,4]"), 4, "shape is 4"},
      {"negative size", one(f32, "[-1]", "[0,4]"), 4, "shape is [-1]"},
      {"size is no whole number", one(f32, "[1.0]", "[0,4]"), 4, "shape is [1.0]"},
      {"size beyond an int64", one(f32, "[9223372036854775808]", "[0,4]"), 4, "shape is"},
      {"too many dimensions", one(f32, "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "shape is"},
      {"overflowing product", one(f32, "[4294967296,4294967296]", "[0,4]"), 4,
       "more bytes than can"},
      {"overflow beside a zero", one(f32, "[0,4294967296,4294967296]", "[0,0]"), 0,
       "more bytes than can"},
      {"overflow by the type", one(f32, "[4611686018427387904]", "[0,0]"), 0,
       "more bytes than can"},
      {"one offset", one(f32, "[1]", "[0]"), 4, "data_offsets is [0]"},
      {"negative offset", one(f32, "[1]", "[-4,0]"), 4, "data_offsets is [-4,0]"},
      {"huge offset", one(f32, "[1]", "[0,18446744073709551616]"), 4, "data_offsets is"},
      {"end before begin", one(f32, "[1]", "[4,0]"), 4, "end before they begin"},
      {"beyond the end", one(f32, "[2]", "[0,8]"), 4, "beyond the end of the file"},
      {"wraps around", one(f32, "[1]", "[9223372036854775804,9223372036854775807]"), 4,
       "beyond the end"},
      {"too few bytes", one(f32, "[2]", "[0,4]"), 4, "takes 8"},
      {"too many bytes", one(f32, "[1]", "[0,8]"), 8, "takes 4"},
      {"hole at the start", one(f32, "[1]", "[4,8]"), 8, "no tensor has the bytes 0 to 4"},
      {"hole at the end", one(f32, "[1]", "[0,4]"), 9, "no tensor has the bytes 4 to 9"},
      {"data of nothing", "{}", 1, "no tensor has the bytes 0 to 1"},
      {"hole",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "no tensor has the bytes 1 to 2"},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "a and b overlap"},
      {"one inside of another",
       R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
       R"("b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       3, "a and b overlap"},
      {"entry is no object", R"({"layer.a":3})", 0, "must have dtype"},
      {"field missing", R"({"a":{"dtype":"U8","shape":[0]}})", 0, "must have dtype"},
      {"field too many", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}})", 0,
       "nothing else"},
      {"metadata of numbers", R"({"__metadata__":{"format":1}})", 0, "__metadata__"},
  };
  const TemporaryFolder folder;
  for (const Broken& broken : cases) {
    write_file(folder / "x", with_length(broken.header, std::string(broken.data, 'x')));
    const auto file = SafetensorsFile::open(folder / "x");
    ASSERT_FALSE(file.has_value()) << broken.what;
    EXPECT_EQ(file.error().code, Errc::corrupt) << broken.what;
    EXPECT_THAT(file.error().message, HasSubstr(broken.message)) << broken.what;
    EXPECT_THAT(file.error().message, HasSubstr((folder / "x").string())) << broken.what;
    if (broken.header.find("layer.a") != std::string::npos && broken.data > 0 &&
        std::string(broken.message).find("no ") == std::string::npos)
      EXPECT_THAT(file.error().message, HasSubstr("layer.a")) << broken.what;
  }
}

TEST(Safetensors, AFileThatIsNoneIsRefused) {
  const TemporaryFolder folder;
  const auto refused = [&](const fs::path& path) {
    const auto file = SafetensorsFile::open(path);
    EXPECT_FALSE(file.has_value());
    return file ? Error{} : file.error();
  };
  EXPECT_EQ(refused(folder / "missing").code, Errc::not_found);
  EXPECT_THAT(refused(folder.path()).message, HasSubstr("is a folder"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refused(folder / "pipe").message, HasSubstr("is a pipe"));
  write_file(folder / "empty", "");
  EXPECT_THAT(refused(folder / "empty").message, HasSubstr("is empty"));
  write_file(folder / "short", "1234567");
  EXPECT_THAT(refused(folder / "short").message, HasSubstr("7 bytes"));
  write_file(folder / "long header", std::string("\xFF\0\0\0\0\0\0\0{}", 10));
  EXPECT_THAT(refused(folder / "long header").message, HasSubstr("should have 255 bytes"));
  write_file(folder / "endless header", std::string(8, '\xFF') + "{}");
  EXPECT_THAT(refused(folder / "endless header").message, HasSubstr("18446744073709551615"));
  write_file(folder / "large header", with_length(std::string((16U << 20) + 1, ' '), ""));
  EXPECT_THAT(refused(folder / "large header").message, HasSubstr("more than 16"));
}

TEST(Safetensors, AFileThatShrinksIsAnErrorToRead) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_safetensors(folder / "x", {{"a", at::zeros({1 << 16})}}, {}).has_value());
  const auto file = open(folder / "x");
  fs::resize_file(folder / "x", 4096);
  std::vector<std::byte> bytes(1 << 18);
  const Status read = file->read(file->entries()[0], 0, bytes);
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::corrupt);
  EXPECT_THAT(read.error().message, HasSubstr("has become shorter"));
}

TEST(SafetensorsDeathTest, AViewOfWhatIsGoneEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const TemporaryFolder folder;
        (void)write_safetensors(folder / "x", {{"a", at::zeros({1 << 16})}}, {});
        const auto file = open(folder / "x");
        const at::Tensor view = file->tensor(file->entries()[0]);
        fs::resize_file(folder / "x", 4096);
        fs::remove_all(folder.path());
        (void)view.sum().item<float>();
        std::exit(0);  // which is no death
      },
      "");
}

TEST(Safetensors, WhatCannotBeWrittenLeavesTheOldFile) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<NamedTensor>& tensors) {
    const Status written = write_safetensors(folder / "x", tensors, {});
    EXPECT_FALSE(written.has_value());
    EXPECT_EQ(written ? Errc::ok : written.error().code, Errc::invalid_argument);
    EXPECT_EQ(read_file(folder / "x"), "old");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
    return written ? "" : written.error().message;
  };
  write_file(folder / "x", "old");
  EXPECT_THAT(refused({{"a", at::zeros(1)}, {"a", at::zeros(1)}}), HasSubstr("a is given twice"));
  EXPECT_THAT(refused({{"__metadata__", at::zeros(1)}}), HasSubstr("__metadata__"));
  EXPECT_THAT(refused({{"a", at::zeros(1, at::kComplexFloat)}}), HasSubstr("ComplexFloat"));
  EXPECT_THAT(refused({{"a", at::zeros({2, 3}).t()}}), HasSubstr("contiguous"));
  EXPECT_THAT(refused({{"a", at::Tensor()}}), HasSubstr("not defined"));
  EXPECT_THAT(refused({{"\xFF", at::zeros(1)}}), HasSubstr("UTF-8"));
  const auto missing = write_safetensors(folder / "nowhere" / "x", {}, {});
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::not_found);
}

TEST(Safetensors, ASourceThatFailsLeavesNothing) {
  const TemporaryFolder folder;
  const std::vector<TensorSource> sources = {
      {"a", at::kFloat, {2}, []() -> Result<at::Tensor> { return at::zeros(2); }},
      {"b", at::kFloat, {2}, []() -> Result<at::Tensor> { return fail(Errc::io_error, "gone"); }}};
  const Status written = stream_safetensors(folder / "x", sources, {});
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().message, "gone");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace crabcast::model
