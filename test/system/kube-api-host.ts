// Serves a Kubernetes API from a folder until it is killed: `node kube-api-host.ts FOLDER PORT TOKEN HISTORY`. Its CA is that
// of FOLDER/identity; it prints its port when it is ready.
import { join } from 'node:path'
import { Authority } from '../../packages/cloudcore/src/identity/index.ts'
import { EmbeddedKubeApi } from '../../packages/kube-api/src/embedded-kube-api.ts'
import { SystemClock, SystemRandom, silentLog } from '../../packages/runtime/src/index.ts'
import { Committer, LevelStore } from '../../packages/store/src/index.ts'

const [folder = '', port = '', token = '', history = ''] = process.argv.slice(2)
const clock = new SystemClock()
const authority = await Authority.open({ folder: join(folder, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log: silentLog })
const store = await LevelStore.open({ path: join(folder, 'objects') })
const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
const api = await EmbeddedKubeApi.open({
  server: {
    name: 'kube-api', host: '127.0.0.1', port: Number(port),
    tls: { certificatePem: authority.server.certificate, keyPem: authority.server.key },
    tokens: [{ token, user: { name: 'churner', groups: ['system:masters'] } }],
    version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
  },
  objects: { historyEventsMax: Number(history) }
}, { store, committer, clock, random: new SystemRandom(), log: silentLog })
console.log(api.server.port)
