// Serves a Kubernetes API from a folder, as cloudcore does, until SIGTERM: `node k-api.ts FOLDER TOKEN`. Prints its port.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Authority } from '../packages/cloudcore/src/identity/index.ts'
import { EmbeddedKubeApi } from '../packages/kube-api/src/embedded-kube-api.ts'
import { SystemClock, SystemRandom, silentLog } from '../packages/runtime/src/index.ts'
import { Committer, LevelStore } from '../packages/store/src/index.ts'

const [folder = '', token = ''] = process.argv.slice(2)
const clock = new SystemClock()
const authority = await Authority.open(
  { folder: join(folder, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log: silentLog }
)
const store = await LevelStore.open({ path: join(folder, 'objects') })
const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
const api = await EmbeddedKubeApi.open({
  server: {
    name: 'kube-api', host: '127.0.0.1', port: 0,
    tls: { certificatePem: authority.server.certificate, keyPem: authority.server.key },
    tokens: [{ token, user: { name: 'bench', groups: ['system:masters'] } }],
    version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
  },
  objects: {}
}, { store, committer, clock, random: new SystemRandom(), log: silentLog })
await writeFile(join(folder, 'ca.pem'), authority.caPem)
console.log(api.server.port)
process.once('SIGTERM', () => {
  void api.close().then(() => committer.close()).then(() => store.close()).then(() => process.exit(0))
})
