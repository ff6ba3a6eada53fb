import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  HoldfastError, makeFolder, nodeNameRule, openDataFolder, parseNodeName, processExists, type Endpoints, type NodeName
} from '@holdfast/runtime'
import { askCloudJson, cloudDefault } from '../cloud-client.ts'
import { defineCommand, usage, type CommandHost } from '../command.ts'
import { readEndpoints, readNodeName, type FoundEndpoints } from '../data-folder.ts'
import { DaemonProcess, portOrFree, type DaemonName } from '../daemon-process.ts'
import { join as joinNode } from '../join.ts'
import { renderTable, type NodeStatus } from '../render.ts'

const readyWithinMs = 30_000

/** What listens where, in the order of the summary: endpoint, section of the configuration; `up` keeps to this machine. */
const parts = [
  { daemon: 'cloudcore', part: 'tunnel', section: 'tunnel', port: 10_000, what: 'tunnel, for nodes' },
  { daemon: 'cloudcore', part: 'https', section: 'https', port: 10_002, what: 'joining' },
  { daemon: 'cloudcore', part: 'kubernetes', section: 'kube', port: 6443, what: 'the Kubernetes API, for kubectl' },
  { daemon: 'cloudcore', part: 'ops', section: 'ops', port: 9091, what: 'cloud operations and records' },
  { daemon: 'edgecore', part: 'mqtt', section: 'mqtt', port: 1883, what: 'MQTT, for devices' },
  { daemon: 'edgecore', part: 'http', section: 'http', port: 10_555, what: 'HTTP, for devices' },
  { daemon: 'edgecore', part: 'localApi', section: 'localApi', port: 10_550, what: 'the node\'s objects, for kubectl' },
  { daemon: 'edgecore', part: 'ops', section: 'ops', port: 9092, what: 'node operations' }
] as const

type Part = (typeof parts)[number]

interface StartedDaemon { readonly daemon: DaemonProcess, readonly urls: Endpoints }

export const up = defineCommand({
  name: 'up',
  summary: 'run cloudcore and one node on this machine until Ctrl-C',
  details: 'The first start makes a token and joins the node; later ones go on with what is in the data directory. Default\n' +
    'ports that are taken are replaced by free ones. When one of the daemons ends, so does this, with its exit code.',
  options: {
    'data-dir': { value: 'DIR', summary: 'Where both keep their data and logs. Default: ./.holdfast' },
    node: { value: 'NODE', summary: 'The node\'s name. Default: the one that has joined, or edge-1.' },
    'free-ports': { summary: 'Take free ports, whether the default ones are taken or not.' }
  },
  async run(values, host) {
    const dataDir = resolve(host.folder, values['data-dir'] ?? '.holdfast')
    const folders = { cloudcore: join(dataDir, 'cloud'), edgecore: join(dataDir, 'edge') } as const
    const joined = await readNodeName(folders.edgecore)
    const node = nameOf(values.node, joined, folders.edgecore)
    await refuseSecond(folders, host.shutdown)
    await openDataFolder('--data-dir', dataDir)
    for (const folder of Object.values(folders)) await makeFolder(folder, 0o750)
    const daemons: DaemonProcess[] = []
    const start = async (name: DaemonName, more: readonly string[]): Promise<StartedDaemon> => {
      const settings = await Promise.all(parts.filter(part => part.daemon === name).map(async ({ section, port }) =>
        [`${section}.host=127.0.0.1`, `${section}.port=${values['free-ports'] ? 0 : await portOrFree(port)}`]))
      const daemon = await DaemonProcess.start({
        name, nodePath: host.nodePath, dataDir: folders[name], logPath: join(dataDir, `${name}.log`),
        settings: [...settings.flat(), ...more]
      }, host.clock)
      daemons.push(daemon)
      host.onExit(() => daemon.kill())
      return { daemon, urls: await daemon.ready(readyWithinMs, host.shutdown) }
    }
    try {
      const cloud = await start('cloudcore', [])
      if (joined === undefined) await joinFirst(node, folders.edgecore, cloud.urls, host)
      const edge = await start('edgecore', [`server=${cloud.urls.tunnel}`])
      await edge.daemon.waitFor('is not connected to cloudcore', async () => {
        const nodes = await askCloudJson(cloud.urls.ops!, { path: '/v1/nodes' }, host.shutdown) as NodeStatus[]
        return nodes.find(({ name, connected }) => name === node && connected)
      }, readyWithinMs, host.shutdown)
      await host.write(summary(node, dataDir, { cloudcore: cloud.urls, edgecore: edge.urls }, daemons, host))
      return await ended(daemons, host)
    } catch (error) {
      if (!host.shutdown.aborted) throw error
      return 0
    } finally {
      await Promise.all(daemons.map(daemon => daemon.stop()))
    }
  }
})

/** Waits for Ctrl-C or for the end of a daemon; stops what runs. Resolves with the exit code. */
async function ended(daemons: readonly DaemonProcess[], host: CommandHost): Promise<number> {
  const asked = new Promise<undefined>(resolve => {
    if (host.shutdown.aborted) resolve(undefined)
    else host.shutdown.addEventListener('abort', () => resolve(undefined), { once: true })
  })
  const first = await Promise.race([asked, ...daemons.map(daemon => daemon.ended.then(code => ({ daemon, code })))])
  if (first !== undefined) {
    const { daemon, code } = first
    host.say(`${daemon.name} ended with code ${code}, so the rest is stopped${await daemon.lastLines()}`)
    return code
  }
  host.say('stopping cloudcore and edgecore')
  const codes = await Promise.all(daemons.map(daemon => daemon.stop()))
  const late = codes.findIndex(code => code !== 0)
  if (late !== -1) host.say(`${daemons[late]!.name} ended with code ${codes[late]}${await daemons[late]!.lastLines()}`)
  return late === -1 ? 0 : codes[late]!
}

function nameOf(option: string | undefined, joined: string | undefined, edgeDir: string): NodeName {
  const name = parseNodeName(option ?? joined ?? 'edge-1')
  if (name === undefined) throw usage(`--node "${option ?? joined}": expected ${nodeNameRule}`)
  if (joined !== undefined && name !== joined) {
    throw usage(`--node "${name}": ${edgeDir} is of the node "${joined}"; leave --node out, or choose another --data-dir`)
  }
  return name
}

/** Two daemons cannot share a data directory. Rejects with `UP_ALREADY_RUNNING`, or with `UP_FILE_UNREADABLE`. */
async function refuseSecond(folders: Readonly<Record<DaemonName, string>>, signal: AbortSignal): Promise<void> {
  const running: string[] = []
  const pids: number[] = []
  for (const [name, folder] of Object.entries(folders)) {
    const endpoints = await readEndpoints(folder)
    if (endpoints === undefined || !await isRunning(endpoints, signal)) continue
    const { pid, ops } = endpoints
    running.push(`${name} is running on ${folder} already (${pid === undefined ? '' : `process ${pid}, `}operations at ${ops})`)
    if (pid !== undefined) pids.push(pid)
  }
  if (running.length === 0) return
  const stop = pids.length === 0 ? 'stop it' : `stop it with: kill ${pids.join(' ')}`
  throw new HoldfastError('UP_ALREADY_RUNNING', `${running.join(', ')}: ${stop}; or choose another --data-dir`)
}

/** What a crash left behind names a process that has ended, or a port that is somebody else's by now. */
async function isRunning({ pid, ops }: FoundEndpoints, signal: AbortSignal): Promise<boolean> {
  if (pid !== undefined && !processExists(pid)) return false
  return await fetch(`${ops}/healthz`, { signal }).then(() => true, () => false)
}

async function joinFirst(node: NodeName, dataDir: string, cloud: Endpoints, host: CommandHost): Promise<void> {
  const { token } = await askCloudJson(cloud.ops!, {
    method: 'POST', path: '/v1/tokens', body: { node, uses: 1, ttlSeconds: 300 }
  }, host.shutdown) as { readonly token: string }
  await joinNode({ server: cloud.https!, token, node, dataDir, signal: host.shutdown })
  host.say(`${node} has joined`)
}

/** What a person needs to go on: where everything is, and three things to try. */
function summary(node: NodeName, dataDir: string, urls: { readonly cloudcore: Endpoints, readonly edgecore: Endpoints },
  daemons: readonly DaemonProcess[], host: CommandHost): string {
  const urlOf = ({ daemon, part }: Part): string => urls[daemon][part]!
  const moved = parts.filter(part => new URL(urlOf(part)).port !== String(part.port))
  const where = renderTable([{ title: 'WHAT' }, { title: 'WHERE' }], [
    ...parts.map(part => [part.what, urlOf(part) + (moved.includes(part) ? `  (instead of ${part.port})` : '')]),
    ...daemons.map(daemon => [`${daemon.name} log, process ${daemon.pid}`, daemon.logPath]),
    ['kubeconfig of the Kubernetes API', join(dataDir, 'cloud', 'kubeconfig')],
    ['kubeconfig of the node\'s objects', join(dataDir, 'edge', 'local.kubeconfig')],
    ['data', dataDir]
  ])
  const mqtt = new URL(urls.edgecore.mqtt!)
  const cloud = urls.cloudcore.ops === cloudDefault ? '' : ` --cloud ${urls.cloudcore.ops}`
  const withKubeconfig = (...path: string[]): string => `--kubeconfig ${shellWord(nearPath(host.folder, join(dataDir, ...path)))}`
  const kubectl = `kubectl ${withKubeconfig('cloud', 'kubeconfig')}`
  return `cloudcore and the node ${node} are up.

${where}
three things to try, in another terminal:

  mosquitto_pub -h ${mqtt.hostname} -p ${mqtt.port} -q 1 -t devices/home/kettle/telemetry -m '{"celsius":81}'
  curl -d '{"celsius":82}' ${urls.edgecore.http}/v1/devices/home/kettle/telemetry
  ${holdfastCommand(host.folder)} records --node ${node}${cloud} --follow

and four with kubectl, of version 1.20 or later:

  ${kubectl} get nodes -o wide
  ${kubectl} create configmap settings --from-literal=colour=blue
  ${kubectl} run hello --image=hello --overrides='${JSON.stringify(helloPod(node))}'
  kubectl ${withKubeconfig('edge', 'local.kubeconfig')} get pods,configmaps,secrets -A

The last one asks the node: it has the Pods that name it, and what these use. They are held, not run.

and with a device, which somebody wants to shine, and which then says that it does:

  echo '${JSON.stringify(lamp(node))}' | ${kubectl} create -f -
  ${holdfastCommand(host.folder)} twin set lamp brightness=80 ${withKubeconfig('cloud', 'kubeconfig')}
  mosquitto_sub -h ${mqtt.hostname} -p ${mqtt.port} -C 1 -t '$hw/events/device/default/lamp/twin/update/delta'
  curl -X PATCH --json '{"brightness":80}' ${urls.edgecore.http}/v1/devices/default/lamp/twin
  ${kubectl} get devices

Ctrl-C stops both.
`
}

/** What makes of `kubectl run` a Pod of the node that uses the ConfigMap made before. */
const helloPod = (node: NodeName): object =>
  ({ spec: { nodeName: node, volumes: [{ name: 'settings', configMap: { name: 'settings' } }] } })

const lamp = (node: NodeName): object =>
  ({ apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { name: 'lamp' }, spec: { nodeName: node } })

/** How this program is called from a folder, as a shell understands it. */
function holdfastCommand(folder: string): string {
  return `node ${shellWord(nearPath(folder, fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url))))}`
}

/** Relative where it is below the folder. */
function nearPath(folder: string, path: string): string {
  const near = relative(folder, path)
  return near.startsWith('..') ? path : near
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./-]+$/.test(text) ? text : `'${text.replaceAll('\'', '\'\\\'\'')}'`
}
