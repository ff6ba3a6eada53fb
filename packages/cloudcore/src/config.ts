import {
  bytes, durationMs, filePath, listOf, listenSettings, logSettings, oneOf, section, textOf, tunnelUrl, whole, type ConfigOf
} from '@holdfast/runtime'
import { isServerName } from './identity/certificates.ts'
import { identityLimits } from './identity/limits.ts'

/** cloudcore's configuration, and the source of its reference page. */
export const cloudcoreSchema = section({
  dataDir: filePath().prefault('/var/lib/holdfast/cloud')
    .describe('Folder of the cloud log, the authority and the endpoints.'),
  serverNames: listOf(
    textOf({
      expected: 'a DNS name or an IP address, without scheme or port', pattern: /^[A-Za-z0-9._:*-]+$/, accepts: isServerName,
      lengthMax: 253
    }).describe('DNS name or IP address.'),
    { lengthMax: identityLimits.serverNames.value }, ['localhost', '127.0.0.1', '::1']
  ).describe('Names and addresses that nodes reach this server by; its certificate holds them.'),
  publicUrl: tunnelUrl().optional().describe('Tunnel URL that joining nodes are told; without it, this server\'s own.'),
  tunnel: section({
    ...listenSettings('0.0.0.0', 10_000),
    nodesMax: whole({ min: 1, max: 100_000 }).prefault(10_000)
      .describe('Nodes connected at a time; a further one is refused and tries again later.'),
    windowBytes: bytes({ min: 2 ** 16, max: 2 ** 26 }).prefault('4MiB')
      .describe('Record bytes that one node may have in flight.')
  }),
  https: section(listenSettings('0.0.0.0', 10_002)),
  ops: section(listenSettings('127.0.0.1', 9091)),
  kube: section({
    mode: oneOf(['embedded', 'cluster', 'none']).prefault('embedded')
      .describe('Where the objects of nodes are: in this program, which serves them as a Kubernetes API; in a Kubernetes cluster; or '
        + 'nowhere.'),
    ...listenSettings('127.0.0.1', 6443),
    freeFloorBytes: bytes({ min: 2 ** 20, max: 2 ** 40 }).prefault('64MiB')
      .describe('Free space below which the embedded API takes no new objects and none that grow.'),
    kubeconfig: filePath().optional()
      .describe('Kubeconfig of the cluster, with mode cluster; without it, the service account of the Pod that this runs in.'),
    adopt: textOf({ expected: 'the uid that the log names', pattern: /^[\x21-\x7e]+$/, lengthMax: 128 }).optional()
      .describe('Uid of the namespace kube-system of a Kubernetes API that takes the place of the one before: nodes then take its '
        + 'objects in place of those they have.'),
    podsWhenAway: oneOf(['keep', 'evict']).prefault('keep')
      .describe('With mode cluster: keep gives Pods of edge nodes tolerations without an end in place of the default five minutes; '
        + 'with evict, the cluster takes them from a node that is away.')
  }),
  retention: section({
    bytesMax: bytes({ min: 2 ** 20, max: 2 ** 50 }).prefault('10GiB')
      .describe('Bytes of records kept; the oldest go first, and their readers are told (410).'),
    ageMax: durationMs({ min: 1000, max: 3650 * 86_400_000 }).prefault('30d')
      .describe('Records received longer ago than this go, and their readers are told (410).')
  }),
  log: logSettings()
}).superRefine(({ kube }, context) => {
  if (kube.mode !== 'embedded' || kube.kubeconfig === undefined) return
  context.addIssue({
    code: 'custom', path: ['kube', 'kubeconfig'], message: 'expected kube.mode=cluster with it: the embedded API needs no kubeconfig'
  })
})

export type CloudcoreConfig = ConfigOf<typeof cloudcoreSchema>
