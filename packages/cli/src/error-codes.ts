import type { ErrorTable } from '@holdfast/runtime'

/**
 * What the `holdfast` commands can end in; `JOIN_…` is `holdfast join`, `UP_…` is `holdfast up`. What a node refuses
 * (`--edge`) has the code that the node gave.
 */
export const cliErrorCodes = {
  JOIN_OPTION_INVALID: {
    cause: 'The server, the token or the node\'s name given to `holdfast join` is not of the right form.',
    remedy: 'Correct the named option.',
    retryable: false
  },
  JOIN_IDENTITY_EXISTS: {
    cause: 'The data directory holds an identity already.',
    remedy: 'Nothing, when the node has joined before. To replace its identity, stop edgecore and add --force.',
    retryable: false
  },
  JOIN_UNREACHABLE: {
    cause: 'The server did not answer, or not in time.',
    remedy: 'Check the address and the port (cloudcore HTTPS, 10002 unless set), and what lies between.',
    retryable: true
  },
  JOIN_CA_MISMATCH: {
    cause: 'The server\'s CA is not the one that the token was made by. The token has not been sent.',
    remedy: 'Check that --server is the cloudcore that made the token. If it is, somebody stands between.',
    retryable: false
  },
  JOIN_SERVER_NAME: {
    cause: 'The server\'s certificate does not carry the name that --server uses. The token has not been sent.',
    remedy: 'Use a name that it carries, or add this one to `serverNames` of cloudcore and restart it.',
    retryable: false
  },
  JOIN_SERVER_UNTRUSTED: {
    cause: 'The server\'s certificate is not valid under the CA of the token. The token has not been sent.',
    remedy: 'Check that --server is the cloudcore that made the token, and that the clock here is not years ahead.',
    retryable: false
  },
  JOIN_REFUSED: {
    cause: 'cloudcore refused: the token has expired, was used, is for another node, or the request is not acceptable.',
    remedy: 'The message holds its reason and code. Mostly: make a new token with `holdfast token create`.',
    retryable: false
  },
  JOIN_ANSWER_INVALID: {
    cause: 'The answer is not one of a cloudcore, or the certificate in it is not the one that was asked for.',
    remedy: 'Check that --server is the HTTPS port of a cloudcore of a matching version.',
    retryable: false
  },
  JOIN_NOT_WRITTEN: {
    cause: 'The identity cannot be written to the data directory.',
    remedy: 'Check its permissions and free space.',
    retryable: false
  },
  CLOUD_UNREACHABLE: {
    cause: 'The operations port of cloudcore did not answer, or not in time.',
    remedy: 'Start cloudcore, or give the URL of its operations port (9091 unless set) with --cloud or HOLDFAST_CLOUD.',
    retryable: true
  },
  CLOUD_REFUSED: {
    cause: 'cloudcore refused what was asked; the message holds its reason.',
    remedy: 'Correct what the message names. A cursor that has expired is answered with the first one there is.',
    retryable: false
  },
  CLOUD_ANSWER_INVALID: {
    cause: 'What answered is not the operations port of a cloudcore, or of one of another version.',
    remedy: 'Check the URL given with --cloud or HOLDFAST_CLOUD.',
    retryable: false
  },
  CLOUD_CONNECTION_LOST: {
    cause: 'The connection to cloudcore broke off in the middle of an answer.',
    remedy: 'Ask again; `holdfast records` goes on with the --cursor that the message names.',
    retryable: true
  },
  EDGE_UNREACHABLE: {
    cause: 'The device API of edgecore did not answer, or not in time.',
    remedy: 'Start edgecore, or give the URL of its device API (10555 unless set) with --edge=URL or HOLDFAST_EDGE.',
    retryable: true
  },
  EDGE_REFUSED: {
    cause: 'edgecore refused what was asked, without a code of its own; the message holds its reason.',
    remedy: 'Correct what the message names, or try again later.',
    retryable: true
  },
  EDGE_ANSWER_INVALID: {
    cause: 'What answered is not the device API of an edgecore, or of one of another version.',
    remedy: 'Check the URL given with --edge or HOLDFAST_EDGE.',
    retryable: false
  },
  EDGE_CONNECTION_LOST: {
    cause: 'The connection to edgecore broke off in the middle of an answer.',
    remedy: 'Ask again.',
    retryable: true
  },
  KUBECONFIG_MISSING: {
    cause: 'No kubeconfig was given, and there is none in the places where it is looked for.',
    remedy: 'Give one with --kubeconfig or KUBECONFIG, or ask the node with --edge.',
    retryable: false
  },
  KUBECONFIG_INVALID: {
    cause: 'The kubeconfig cannot be read or used: the message says what is wrong with it.',
    remedy: 'Give one with a server and a token or a client certificate; plugins that fetch credentials are not run.',
    retryable: false
  },
  CLUSTER_UNREACHABLE: {
    cause: 'The Kubernetes API that the kubeconfig names did not answer, or not in time.',
    remedy: 'Start cloudcore or the cluster, or give another kubeconfig with --kubeconfig; --edge asks the node itself.',
    retryable: true
  },
  CLUSTER_REFUSED: {
    cause: 'The Kubernetes API refused what was asked; the message holds its reason.',
    remedy: 'Correct what the message names; for a lack of rights, use the kubeconfig of somebody who has them.',
    retryable: false
  },
  CLUSTER_ANSWER_INVALID: {
    cause: 'What answered at the server of the kubeconfig is not a Kubernetes API, or serves no devices.kubeedge.io/v1beta1.',
    remedy: 'Check the kubeconfig; in a cluster apply the definitions in deploy/crds.',
    retryable: false
  },
  CLUSTER_CONNECTION_LOST: {
    cause: 'The connection to the Kubernetes API broke off in the middle of an answer.',
    remedy: 'Ask again.',
    retryable: true
  },
  DEVICE_NOT_FOUND: {
    cause: 'There is no Device of this name in the Kubernetes API.',
    remedy: '`holdfast get devices` lists those that there are; a name without a namespace is one of `default`.',
    retryable: false
  },
  DESIRED_NOT_ALLOWED: {
    cause: 'The DeviceModel of the Device does not have the property that is to be set, or calls it ReadOnly.',
    remedy: 'Set one that it has, or change the DeviceModel.',
    retryable: false
  },
  DESIRED_CONFLICT: {
    cause: 'The desired value has another version than the one given with --if-version, or the Device was changed again and ' +
      'again meanwhile.',
    remedy: 'Read the twin again with `holdfast twin get`, decide anew, and set it with the version shown.',
    retryable: false
  },
  UP_ALREADY_RUNNING: {
    cause: 'A daemon runs on the data directory given to `holdfast up`.',
    remedy: 'Stop the named process, or choose another --data-dir.',
    retryable: false
  },
  UP_FILE_UNREADABLE: {
    cause: 'A file in the data directory given to `holdfast up` is damaged, or not readable by this user.',
    remedy: 'The message names the file and what to do with it.',
    retryable: false
  },
  UP_DAEMON_ENDED: {
    cause: 'A daemon that `holdfast up` started ended before it was ready.',
    remedy: 'The message holds the end of its log, which says why.',
    retryable: false
  },
  UP_NOT_READY: {
    cause: 'A daemon that `holdfast up` started was not ready, or not connected, in time.',
    remedy: 'The message holds the end of its log. Another cloud\'s data in the data directory is a common reason.',
    retryable: false
  }
} as const satisfies ErrorTable

export type CliErrorCode = keyof typeof cliErrorCodes
