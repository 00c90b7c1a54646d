// State dicts that are read, and pickles that are refused: nothing of a pickle is executed.
#include "model/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/torch_fixture.h"

namespace crabcast::model {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

const DictTensor kTensor = {"a.weight", {2, 3}, {3, 1}, "7", 6};

std::string refusal(const std::string& pickle) {
  const auto dict = read_state_dict(pickle);
  if (dict.has_value()) return "it was read";
  EXPECT_EQ(dict.error().code, Errc::corrupt);
  return dict.error().message;
}

// In the place of a tensor of a dict that is right otherwise.
std::string refusal_of_value(const std::string& value) {
  return refusal(pickled_dict({{"a.weight", value}}));
}

TEST(Pickle, AStateDict) {
  DictTensor half = {"b.weight", {4}, {1}, "8", 10, 6, "BFloat16Storage"};
  const auto dict = read_state_dict(pickled_state_dict({kTensor, half}));
  ASSERT_TRUE(dict.has_value()) << dict.error().message;
  ASSERT_EQ(dict->size(), 2U);
  const PickledTensor &a = (*dict)[0], &b = (*dict)[1];
  EXPECT_EQ(a.name, "a.weight");
  EXPECT_EQ(a.storage, "7");
  EXPECT_EQ(a.type, at::kFloat);
  EXPECT_EQ(a.storage_elements, 6);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  EXPECT_THAT(a.strides, ElementsAre(3, 1));
  EXPECT_EQ(b.type, at::kBFloat16);
  EXPECT_EQ(b.offset, 6);
}

TEST(Pickle, TheFormsThatPythonWrites) {
  // An ordered dict with the attributes that state_dict() gives it; a text kept and recalled.
  const std::string ordered = pickled_name("collections", "OrderedDict") + ")R";
  const std::string attributes = "}" + pickled_text("_metadata") + "q\1" + "}sb";
  EXPECT_EQ(refusal("\x80\x02" + ordered + pickled_text("w") + pickled_tensor(kTensor) + "s" +
                    attributes + "."),
            "it was read");
  EXPECT_EQ(refusal("\x80\x02}" + pickled_text("w") + "q\1" + pickled_tensor(kTensor) + "s(" +
                    pickled_text("v") + pickled_tensor(kTensor) + "u."),
            "it was read");
  EXPECT_EQ(refusal_of_value(pickled_name("torch._utils", "_rebuild_parameter") + "(" +
                             pickled_tensor(kTensor) + "\x88" + ordered + "tR"),
            "it was read");

  // Protocol 4: frames, short texts, names from the stack, memo numbers that count.
  const std::string tensor = pickled_tensor(kTensor);
  const std::string stacked =
      "\x8C\x0C"
      "torch._utils\x8C\x12"
      "_rebuild_tensor_v2\x93" +
      tensor.substr(tensor.find("(("));
  EXPECT_EQ(refusal("\x80\x04\x95" + little(std::uint64_t{99}) +
                    "}\x8C\x08"
                    "a.weight\x94" +
                    stacked + "s."),
            "it was read");
}

TEST(Pickle, UntypedStoragesCountBytes) {
  const std::string no_hooks = pickled_name("collections", "OrderedDict") + ")R";
  const std::string value =
      pickled_name("torch._utils", "_rebuild_tensor_v3") + "((" + pickled_text("storage") +
      pickled_name("torch.storage", "UntypedStorage") + pickled_text("0") + pickled_text("cpu") +
      pickled_whole(12) + "tQK" + std::string("\0", 1) + pickled_sizes({6}) + pickled_sizes({1}) +
      "\x89" + no_hooks + pickled_name("torch", "float16") + "tR";
  const auto dict = read_state_dict(pickled_dict({{"w", value}}));
  ASSERT_TRUE(dict.has_value()) << dict.error().message;
  EXPECT_EQ(dict->front().type, at::kHalf);
  EXPECT_EQ(dict->front().storage_elements, 6);
}

TEST(Pickle, RefusesCode) {
  const auto call = [](const std::string& module, const std::string& name) {
    return pickled_name(module, name) + pickled_text("touch /tmp/owned") + "\x85R";
  };
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"posix", "system"},
                                                        {"subprocess", "Popen"},
                                                        {"builtins", "eval"},
                                                        {"builtins", "exec"},
                                                        {"builtins", "getattr"},
                                                        {"__builtin__", "eval"},
                                                        {"torch", "load"},
                                                        {"torch.hub", "load"},
                                                        {"torch._utils", "_import_dotted_name"},
                                                        {"torch.storage", "_load_from_bytes"},
                                                        {"collections", "OrderedDict.__class__"},
                                                        {"functools", "partial"}}) {
    SCOPED_TRACE(module + "." + name);
    const std::string message = refusal_of_value(call(module, name));
    EXPECT_THAT(message, HasSubstr(module + "." + name));
    EXPECT_THAT(message, HasSubstr("nothing of the file was executed"));
    // Deep inside of a tensor's arguments, and as a storage's type.
    EXPECT_THAT(refusal_of_value(pickled_name("torch._utils", "_rebuild_tensor_v2") + "(" +
                                 call(module, name) + "tR"),
                HasSubstr(module + "." + name));
  }
  // Instructions that make objects of classes, or import by code.
  for (const char opcode :
       {'i', 'o', '\x81', '\x82', '\x83', '\x84', '\x92', 'P', 'I', 'S', 'd', 'l'})
    EXPECT_THAT(refusal_of_value(std::string(1, opcode)),
                HasSubstr("has no place in a state dict"));
  EXPECT_THAT(refusal_of_value("\x8C\2os\x8C\6system\x93"), HasSubstr("os.system"));
  // A name that is known, used as what it is not.
  EXPECT_THAT(refusal_of_value(call("torch", "FloatStorage")), HasSubstr("no function"));
  EXPECT_THAT(refusal_of_value(call("collections", "OrderedDict")), HasSubstr("1 arguments"));
  EXPECT_THAT(refusal_of_value(pickled_text("torch") + ")R"), HasSubstr("a text stands where"));
  EXPECT_THAT(refusal_of_value(pickled_tensor(kTensor) + "}b"), HasSubstr("a tensor stands where"));
}

TEST(Pickle, SaysWhere) {
  EXPECT_THAT(refusal("\x80\x02}cos\nsystem\n."), HasSubstr("at byte 3: it names os.system"));
}

TEST(Pickle, RefusesWhatIsNoStateDict) {
  EXPECT_THAT(refusal(""), HasSubstr("ends in the middle"));
  EXPECT_THAT(refusal("\x80\x02"), HasSubstr("ends in the middle"));
  EXPECT_THAT(refusal("\x80\x01}."), HasSubstr("protocol is 1"));
  EXPECT_THAT(refusal("\x80\x02N."), HasSubstr("None stands where a dict should"));
  EXPECT_THAT(refusal("\x80\x02}.}"), HasSubstr("behind the end"));
  EXPECT_THAT(refusal("\x80\x02}}."), HasSubstr("one object at the end"));
  EXPECT_THAT(refusal("\x80\x02}(."), HasSubstr("one object at the end"));
  EXPECT_THAT(refusal("\x80\x02s."), HasSubstr("empty stack"));
  EXPECT_THAT(refusal("\x80\x02}(s."), HasSubstr("empty stack"));
  EXPECT_THAT(refusal("\x80\x02t."), HasSubstr("no mark"));
  EXPECT_THAT(refusal("\x80\x02h\5."), HasSubstr("recalls number 5"));
  EXPECT_THAT(refusal("\x80\x02}(K\1u."), HasSubstr("a key without a value"));
  EXPECT_THAT(refusal("\x80\x02}K\1K\2s."), HasSubstr("a number stands where a text should"));
  EXPECT_THAT(refusal_of_value("K\1"), HasSubstr("a number stands where a tensor should"));
  EXPECT_THAT(refusal(pickled_state_dict({kTensor, kTensor})),
              HasSubstr("a.weight is there twice"));
  for (const std::string& name :
       {std::string(), std::string("a\nb"), std::string("\xFF"), std::string(600, 'x')})
    EXPECT_THAT(refusal(pickled_dict({{name, pickled_tensor(kTensor)}})), HasSubstr("plain text"));
}

TEST(Pickle, RefusesTensorsThatAreNone) {
  const auto changed = [](auto change) {
    DictTensor tensor = kTensor;
    change(tensor);
    return refusal(pickled_state_dict({tensor}));
  };
  EXPECT_THAT(changed([](auto& t) { t.shape = {-1, 3}; }), HasSubstr("negative"));
  EXPECT_THAT(changed([](auto& t) { t.strides = {3}; }), HasSubstr("another number of sizes"));
  EXPECT_THAT(changed([](auto& t) { t.elements = -6; }), HasSubstr("negative"));
  EXPECT_THAT(changed([](auto& t) { t.shape = std::vector<std::int64_t>(9, 1); }),
              HasSubstr("more than 8 dimensions"));
  EXPECT_THAT(changed([](auto& t) { t.type = "IntStorage"; }), HasSubstr("torch.IntStorage"));
  EXPECT_THAT(changed([](auto& t) { t.type = "UntypedStorage"; }), HasSubstr("no type"));
  EXPECT_THAT(refusal_of_value(pickled_name("torch._utils", "_rebuild_tensor_v2") + ")R"),
              HasSubstr("gets 0 arguments"));
  EXPECT_THAT(refusal_of_value(pickled_text("module") + "\x85Q"), HasSubstr("no storage"));
  EXPECT_THAT(refusal_of_value(std::string("\x8A\x09", 2) + std::string(9, '\1')),
              HasSubstr("a number has 9 bytes"));
}

TEST(Pickle, HugeSizesAndDepthsCostNothing) {
  EXPECT_THAT(refusal("\x80\x02X" + little(std::uint32_t{0xFFFFFFFF}) + "a."),
              HasSubstr("ends in the middle"));
  EXPECT_THAT(refusal("\x80\x02" + std::string(3 << 20, '(')), HasSubstr("too deep"));
  EXPECT_THAT(refusal("\x80\x02" + std::string(3 << 20, '}')), HasSubstr("objects"));
  // A tuple in a tuple in a tuple ..: no recursion goes down there.
  EXPECT_THAT(refusal("\x80\x02)" + std::string(1 << 19, '\x85') + "."),
              HasSubstr("a tuple stands"));
  std::string recalled = "\x80\x02)q\1";
  for (int i = 0; i < (2 << 20); ++i) recalled += "h\1";
  EXPECT_THAT(refusal(recalled), HasSubstr("too deep"));
  // A dict that holds itself.
  EXPECT_THAT(refusal("\x80\x02}q\1" + pickled_text("a") + "h\1s."),
              HasSubstr("a dict stands where"));
}

}  // namespace
}  // namespace crabcast::model
