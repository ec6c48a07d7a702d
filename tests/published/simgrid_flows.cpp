// Flows over a three-tier fat tree in SimGrid: prints when each ends, in seconds, one a line.
//
// Input file: hosts a leaf, leaves a pod, pods; spines a pod, cores a spine; bytes per second of every
// link, number of flows; then source, target and bytes of each. All flows start at time 0.
#include <cstdio>
#include <fstream>
#include <simgrid/s4u.hpp>
#include <string>
#include <utility>
#include <vector>

namespace sg4 = simgrid::s4u;

int main(int argc, char** argv)
{
  sg4::Engine engine(&argc, argv);
  std::ifstream input(argv[1]);
  unsigned int hosts_per_leaf, leaves, pods, spines, cores;
  double bandwidth;
  int count;
  input >> hosts_per_leaf >> leaves >> pods >> spines >> cores >> bandwidth >> count;

  std::vector<sg4::Host*> hosts;
  auto make_host = [&hosts](sg4::NetZone* zone, const std::vector<unsigned long>&, unsigned long id) {
    hosts.push_back(zone->create_host("host-" + std::to_string(id), 1e9));
    return std::pair<simgrid::kernel::routing::NetPoint*, simgrid::kernel::routing::NetPoint*>(
        hosts.back()->get_netpoint(), nullptr);
  };
  auto* tree = sg4::create_fatTree_zone(
      "tree", nullptr, {3, {hosts_per_leaf, leaves, pods}, {1, spines, cores}, {1, 1, 1}},
      sg4::ClusterCallbacks(make_host), bandwidth, 0, sg4::Link::SharingPolicy::SPLITDUPLEX);
  tree->seal();

  sg4::Actor::create("sender", hosts[0], [&] {
    std::vector<sg4::CommPtr> flows;
    for (int i = 0; i < count; i++) {
      int source, target;
      double bytes;
      input >> source >> target >> bytes;
      flows.push_back(sg4::Comm::sendto_init(hosts[source], hosts[target])->set_payload_size(bytes));
      flows.back()->start();
    }
    for (auto& flow : flows)
      flow->wait();
    for (auto& flow : flows)
      std::printf("%.17g\n", flow->get_finish_time());
  });
  engine.run();
  return 0;
}
