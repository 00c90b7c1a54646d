#include "cluster/keys.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <thread>
#include <vector>

namespace crabcast::cluster {
namespace {

namespace fs = std::filesystem;

class Keys : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "crabcast-keys-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    folder_ = root_ / "deep" / "keys";
  }
  void TearDown() override { fs::remove_all(root_); }
  fs::path root_, folder_;
};

TEST_F(Keys, AreMadeOnceAndReadBack) {
  const auto made = load_or_create_keyring(folder_);
  ASSERT_TRUE(made) << made.error().message;
  const auto read = load_or_create_keyring(folder_);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->server_public, made->server_public);
  EXPECT_EQ(read->server_secret, made->server_secret);
  EXPECT_EQ(read->client_public, made->client_public);
  EXPECT_EQ(read->client_secret, made->client_secret);
  EXPECT_EQ(read->authorized, std::set<std::string>{made->client_public});
  EXPECT_NE(made->server_secret, made->client_secret);
  for (const char* secret : {"server.secret", "client.secret"})
    EXPECT_EQ(fs::status(folder_ / secret).permissions(),
              fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(Keys, ProcessesThatStartAtOnceAgree) {
  std::vector<Result<Keyring>> rings(8, make_keyring());
  std::vector<std::thread> threads;
  for (auto& ring : rings)
    threads.emplace_back([&ring, this] { ring = load_or_create_keyring(folder_); });
  for (auto& thread : threads) thread.join();
  for (const auto& ring : rings) {
    ASSERT_TRUE(ring) << ring.error().message;
    EXPECT_EQ(ring->server_secret, rings[0]->server_secret);
  }
  // No draft is left behind.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.parent_path()), {}), 1);
}

TEST_F(Keys, MissingFolderIsNotFound) {
  const auto keys = load_keyring(folder_);
  ASSERT_FALSE(keys);
  EXPECT_EQ(keys.error().code, Errc::not_found);
}

TEST_F(Keys, SecretThatOthersCanReadIsRefused) {
  ASSERT_TRUE(load_or_create_keyring(folder_));
  fs::permissions(folder_ / "client.secret", fs::perms::group_read, fs::perm_options::add);
  const auto keys = load_keyring(folder_);
  ASSERT_FALSE(keys);
  EXPECT_EQ(keys.error().code, Errc::permission_denied);
  EXPECT_NE(keys.error().message.find("client.secret"), std::string::npos);
}

TEST_F(Keys, DamagedOrForeignKeysAreNamed) {
  ASSERT_TRUE(load_or_create_keyring(folder_));
  const auto other = make_keyring().value();
  std::ofstream(folder_ / "server.public") << other.server_public << "\n";
  auto keys = load_keyring(folder_);
  ASSERT_FALSE(keys);
  EXPECT_EQ(keys.error().code, Errc::corrupt);
  EXPECT_NE(keys.error().message.find("server.public"), std::string::npos);
  std::ofstream(folder_ / "server.public") << "short\n";
  keys = load_keyring(folder_);
  ASSERT_FALSE(keys);
  EXPECT_EQ(keys.error().code, Errc::corrupt);
}

TEST_F(Keys, MachineThatOnlyConnectsNeedsNoServerSecret) {
  ASSERT_TRUE(load_or_create_keyring(folder_));
  fs::remove(folder_ / "server.secret");
  fs::remove_all(folder_ / "authorized");
  const auto keys = load_keyring(folder_);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_TRUE(keys->server_secret.empty());
  EXPECT_TRUE(keys->authorized.empty());
}

TEST_F(Keys, EveryAuthorizedFileCounts) {
  const auto made = load_or_create_keyring(folder_);
  ASSERT_TRUE(made);
  const auto guest = make_keyring().value();
  std::ofstream(folder_ / "authorized" / "guest.public") << guest.client_public << "\n";
  std::ofstream(folder_ / "authorized" / "README") << "not a key\n";
  const auto keys = load_keyring(folder_);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_EQ(keys->authorized, (std::set<std::string>{made->client_public, guest.client_public}));
}

}  // namespace
}  // namespace crabcast::cluster
