// A monitor that goes away while its socket still has something to tell must not hold up libzmq.
#include <gtest/gtest.h>

#include <zmq.hpp>

#include "cluster/curve.h"

namespace crabcast::cluster {
namespace {

std::string bound_endpoint(zmq::socket_t& socket) {
  socket.bind("tcp://127.0.0.1:*");
  return socket.get(zmq::sockopt::last_endpoint);
}

// One message over TCP, so through the context's I/O thread.
bool context_moves_messages(zmq::context_t& context) {
  zmq::socket_t pull(context, zmq::socket_type::pull), push(context, zmq::socket_type::push);
  for (zmq::socket_t* socket : {&pull, &push}) {
    socket->set(zmq::sockopt::linger, 0);
    socket->set(zmq::sockopt::rcvtimeo, 5000);
    socket->set(zmq::sockopt::sndtimeo, 5000);
  }
  push.connect(bound_endpoint(pull));
  zmq::message_t message;
  return push.send(zmq::str_buffer("x"), zmq::send_flags::none) && pull.recv(message);
}

TEST(SocketMonitor, MayGoWhileConnectionsAreMadeAndBroken) {
  auto context = std::make_unique<zmq::context_t>(1);
  for (int round = 0; round < 100; ++round) {
    zmq::context_t other(1);
    zmq::socket_t server(other, zmq::socket_type::router);
    server.set(zmq::sockopt::linger, 0);
    const auto endpoint = bound_endpoint(server);
    zmq::socket_t client(*context, zmq::socket_type::dealer);
    client.set(zmq::sockopt::linger, 0);
    auto monitor = std::make_unique<SocketMonitor>(*context, client, ZMQ_EVENT_ALL);
    client.connect(endpoint);
    if (round % 2 == 0) server.close();  // so that the connection breaks as well
    // What it has to tell comes now, or when the monitor is gone.
    for (int event = 0; event < round % 5; ++event) (void)monitor->next();
    monitor.reset();
    client.close();
    if (round % 10 == 9) {
      const bool moves = context_moves_messages(*context);
      EXPECT_TRUE(moves) << "libzmq stands still after round " << round;
      if (!moves) {
        (void)context.release();  // to close it would wait for ever
        return;
      }
    }
  }
}

}  // namespace
}  // namespace crabcast::cluster
