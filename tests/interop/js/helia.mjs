// A Helia node over js-libp2p, asked by lines of JSON: [command, argument...], each answered by {ok} or {error}.
// It listens on loopback alone, and serves the DHT. The first line out says who it is.
import { open, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

const helia = withBitswap(withLibp2pLight(createHeliaLight(), {
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({ protocol: '/ipfs/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper })
  }
}))
await helia.start()
const { libp2p } = helia
const files = unixfs(helia)
const within = (ms) => ({ signal: AbortSignal.timeout(ms) })

const commands = {
  add: async (path, version) =>
    (await files.addBytes(await readFile(path), { cidVersion: version, rawLeaves: version === 1 })).toString(),
  get: async (cid, path, seconds) => {
    const file = await open(path, 'w')
    try {
      for await (const chunk of files.cat(CID.parse(cid), within(seconds * 1000))) { await file.write(chunk) }
    } finally {
      await file.close()
    }
    return true
  },
  connect: async (address) => { await libp2p.dial(multiaddr(address), within(10_000)); return true },
  disconnect: async () => { await Promise.all(libp2p.getConnections().map((connection) => connection.close(within(10_000)))); return true },
  ping: async (address) => await libp2p.services.ping.ping(multiaddr(address), within(10_000)),
  peers: async () => libp2p.getPeers().map(String),
  provide: async (cid) => { await libp2p.contentRouting.provide(CID.parse(cid), within(20_000)); return true },
  providers: async (cid) => {
    for await (const peer of libp2p.contentRouting.findProviders(CID.parse(cid), within(20_000))) {
      return { id: peer.id.toString(), addresses: peer.multiaddrs.map(String) }
    }
    return null
  }
}

const say = (value) => { process.stdout.write(JSON.stringify(value) + '\n') }
say({ id: libp2p.peerId.toString(), addresses: libp2p.getMultiaddrs().map((address) => address.toString().split('/p2p/')[0]) })
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line)
  try {
    say({ ok: await commands[name](...args) })
  } catch (error) {
    say({ error: String(error.stack ?? error) })
  }
}
process.exit(0)
