#include "actors/control/policy_file.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/storage/fixtures.h"

namespace crabcast::actors {
namespace {

using ::testing::HasSubstr;

class PolicyFileTest : public ::testing::Test {
 protected:
  void write(const std::string& text) { std::ofstream(path_) << text; }
  static std::string with_weight(const std::string& weight) {
    return "crabcast: 1\nqueues:\n  default: {weight: " + weight + "}\n";
  }
  storage::TempFolder folder_;
  std::filesystem::path path_ = folder_ / "policy.yaml";
  PolicyFile file_{path_};
};

TEST_F(PolicyFileTest, WithoutAPathTheStandardPolicyHolds) {
  PolicyFile none{std::filesystem::path()};
  EXPECT_EQ(none.read().value(), scheduler::ClusterPolicy::standard());
  EXPECT_FALSE(none.read_if_changed());
  EXPECT_EQ(none.replace(with_weight("1")).error().code, Errc::unsupported);
}

TEST_F(PolicyFileTest, IsReadAgainWhenItChanges) {
  write(with_weight("2"));
  EXPECT_EQ(file_.read()->find("default")->weight, 2);
  EXPECT_FALSE(file_.read_if_changed());
  write(with_weight("3.5"));
  const auto changed = file_.read_if_changed();
  ASSERT_TRUE(changed && *changed);
  EXPECT_EQ((*changed)->find("default")->weight, 3.5);
  EXPECT_FALSE(file_.read_if_changed());
}

TEST_F(PolicyFileTest, ABadOneIsRefusedOnceAndTheLastGoodTextStays) {
  write(with_weight("2"));
  ASSERT_TRUE(file_.read());
  write(with_weight("many"));
  const auto changed = file_.read_if_changed();
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->error().code, Errc::invalid_spec);
  EXPECT_THAT(changed->error().message, HasSubstr("policy.yaml:3:"));
  EXPECT_FALSE(file_.read_if_changed()) << "it is said once";
  EXPECT_EQ(file_.text().yaml(), with_weight("2"));
  EXPECT_THAT(file_.text().refused(), HasSubstr("weight"));
}

TEST_F(PolicyFileTest, OneThatIsGoneIsRefused) {
  write(with_weight("2"));
  ASSERT_TRUE(file_.read());
  std::filesystem::remove(path_);
  const auto changed = file_.read_if_changed();
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->error().code, Errc::not_found);
  EXPECT_FALSE(file_.read_if_changed());
}

TEST_F(PolicyFileTest, ReplacingItKeepsTheFileWhenTheNewOneIsBad) {
  write(with_weight("2"));
  ASSERT_TRUE(file_.read());
  EXPECT_EQ(file_.replace(with_weight("many")).error().code, Errc::invalid_spec);
  EXPECT_EQ(file_.text().yaml(), with_weight("2"));
  ASSERT_TRUE(file_.replace(with_weight("4.25")));
  EXPECT_FALSE(file_.read_if_changed()) << "it is taken already";
  EXPECT_EQ(PolicyFile(path_).read()->find("default")->weight, 4.25);
}

}  // namespace
}  // namespace crabcast::actors
