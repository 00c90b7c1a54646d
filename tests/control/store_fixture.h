// Actors that own a store, on their own threads, over real stores in a temporary folder.
#pragma once

#include <gtest/gtest.h>

#include <caf/all.hpp>
#include <utility>
#include <vector>

#include "actors/messages.h"
#include "tests/storage/fixtures.h"

namespace crabcast::actors {

constexpr auto kPatience = std::chrono::seconds(20);  // a slow machine is not a failure

class StoreActorTest : public testing::Test {
 protected:
  ~StoreActorTest() override {
    for (const auto& actor : actors_) {
      caf::scoped_actor self{system_};
      self->send_exit(actor, caf::exit_reason::user_shutdown);
      self->wait_for(actor);
    }
  }
  const caf::actor& keep(caf::actor actor) {
    actors_.push_back(std::move(actor));
    return actors_.back();
  }
  template <class Answer, class Question>
  Result<Answer> ask(const caf::actor& who, const Question& question) {
    caf::scoped_actor self{system_};
    Result<Answer> result = fail(Errc::internal, "");
    self->request(who, kPatience, question)
        .receive([&](const Answer& answer) { result = answer; },
                 [&](const caf::error& error) { result = fail(from_caf(error)); });
    return result;
  }
  template <class Question>
  Status tell(const caf::actor& who, const Question& question) {
    caf::scoped_actor self{system_};
    Status result = fail(Errc::internal, "");
    self->request(who, kPatience, question)
        .receive([&] { result = {}; },
                 [&](const caf::error& error) { result = fail(from_caf(error)); });
    return result;
  }

  storage::TempFolder folder_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::vector<caf::actor> actors_;
};

}  // namespace crabcast::actors
