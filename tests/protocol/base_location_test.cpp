// Where model.base leads.
#include "protocol/base_location.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace crabcast {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BaseLocation : public ::testing::Test {
 protected:
  BaseLocation() {
    std::string pattern = (fs::temp_directory_path() / "crabcast-bases-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    bases_ = pattern;
    for (const char* name : {"omni-7b", "Omni.3B", ".omni-7b.partial"})
      fs::create_directory(bases_ / name);
    std::ofstream(bases_ / "a-file") << "x";
  }
  ~BaseLocation() override { fs::remove_all(bases_); }
  fs::path bases_;
};

TEST_F(BaseLocation, ShippedImportedAndFolders) {
  EXPECT_EQ(*locate_base("nano", bases_), "nano");
  EXPECT_EQ(*locate_base("nano", {}), "nano");
  EXPECT_EQ(*locate_base("omni-7b", bases_), (bases_ / "omni-7b").string());
  EXPECT_EQ(*locate_base("Omni.3B", bases_), (bases_ / "Omni.3B").string());
  EXPECT_EQ(*locate_base(bases_.string(), {}), bases_.string());
}

TEST_F(BaseLocation, AnUnknownNameIsNotFoundAndTheOthersAreNamed) {
  const auto misspelt = locate_base("omni-7", bases_);
  ASSERT_FALSE(misspelt.has_value());
  EXPECT_EQ(misspelt.error().code, Errc::not_found);
  EXPECT_THAT(misspelt.error().message,
              AllOf(HasSubstr("nano, Omni.3B, omni-7b"), HasSubstr("Did you mean \"omni-7b\"?"),
                    Not(HasSubstr("partial"))));
  for (const char* none : {"a-file", ".omni-7b.partial", "..", ".", ""})
    EXPECT_EQ(locate_base(none, bases_).error().code, Errc::not_found) << none;
  EXPECT_EQ(locate_base("omni-7b", {}).error().code, Errc::not_found);
  EXPECT_EQ(locate_base("omni-7b", bases_ / "nowhere").error().code, Errc::not_found);
}

TEST_F(BaseLocation, AFolderMustBeThere) {
  for (const std::string path : {bases_.string() + "/nowhere", bases_.string() + "/a-file"}) {
    const auto located = locate_base(path, bases_);
    ASSERT_FALSE(located.has_value());
    EXPECT_EQ(located.error().code, Errc::not_found);
    EXPECT_THAT(located.error().message, HasSubstr("no such folder"));
  }
}

TEST(BaseName, TakesPlainNamesOnly) {
  for (const char* name : {"a", "7b", "Qwen2.5-Omni-7B", "omni_7b"})
    EXPECT_TRUE(check_base_name(name).has_value()) << name;
  for (const std::string name :
       {"", ".", "..", ".hidden", "-x", "_x", "a/b", "a b", "a\n", "gr\xC3\xBCn", "nano"})
    EXPECT_FALSE(check_base_name(name).has_value()) << name;
  EXPECT_TRUE(check_base_name(std::string(63, 'a')).has_value());
  EXPECT_FALSE(check_base_name(std::string(64, 'a')).has_value());
}

}  // namespace
}  // namespace crabcast
